"""How good a fine-tuned model is, and how much better than it was: scores of every instance, tables, plots, panels.

Each box of the dataset prompts the model, and the mask is compared with that of the box. Images are read ahead in
threads and encoded in batches, unless their embeddings are in the cache of a training run; masks are scored behind.
"""

from __future__ import annotations

import heapq
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, TypeAlias

import numpy as np
from pydantic import Field

from toolkit.core.batch import Figures, Job, Outcome
from toolkit.core.claims import claimed_folder
from toolkit.core.extras import require_installed
from toolkit.core.files import TargetExistsError, make_folder
from toolkit.preview import save_png
from toolkit.sam.coco_results import decode_rle
from toolkit.sam.embedding_cache import DEFAULT_FOLDER
from toolkit.sam.evaluation_plots import draw_evaluation
from toolkit.sam.evaluation_step import MASKS, ROWS, EvaluateSamStep, EvaluationItem, EvaluationSettings
from toolkit.sam.evaluation_tables import (
    METRIC_NAMES,
    GroupRow,
    InstanceRow,
    group_rows,
    write_groups,
    write_instances,
)
from toolkit.sam.layout import SamLayout, SampleFiles, read_layout
from toolkit.sam.metrics import BOUNDARY_TOLERANCE
from toolkit.sam.model_step import ModelOptions
from toolkit.sam.panels import prediction_panel
from toolkit.sam.run_models import tuned_model, untuned_model
from toolkit.sam.samples import load_sample
from toolkit.sam.split_file import SPLIT_NAME, load_split

Part: TypeAlias = Literal["auto", "train", "val", "all"]

AUTO: Final = "auto"
NONE: Final = "none"

INSTANCES_NAME: Final = "instances.csv"
GROUPS_NAME: Final = "summary.csv"
PLOT_NAME: Final = "evaluation.png"
PANELS: Final = "panels"


class EvaluateSamOptions(ModelOptions):
    """The options of an evaluation.

    Attributes:
        data: the dataset's folder (``images/ masks/ boxes/ summary.json``).
        output: folder for the results, made if missing.
        model: a training run's folder, a folder that holds a SAM model of transformers, or a Hugging Face id.
        baseline: the un-tuned model to compare with, named likewise; "auto": the one that the run began with, where
            ``model`` is a run; "none": none.
        part: the samples to evaluate; "auto": those for validation, and all where the dataset has no ``split.json``.
        split: the file with the split; None: ``split.json`` in the dataset.
        boundary_tolerance: how far a boundary may be off, as a fraction of the image's diagonal.
        panels: how many images to draw, those with the lowest mean IoU.
        cache_dir: where training kept embeddings, which are used; None: ``.mvtk-embeddings`` in the dataset's folder.
        cache_dtype: of those embeddings.
        overwrite: replace results that exist.
    """

    data: Path
    output: Path
    baseline: str = Field(default=AUTO, min_length=1)
    part: Part = "auto"
    split: Path | None = None
    boundary_tolerance: float = Field(default=BOUNDARY_TOLERANCE, gt=0, lt=1)
    panels: int = Field(default=8, ge=0)
    cache_dir: Path | None = None
    cache_dtype: Literal["float32", "float16"] = "float32"
    overwrite: bool = False


class EvaluateSamJob(Job[EvaluationItem]):
    """The evaluation of the samples of a dataset.

    ``instances.csv`` (a line an instance), ``summary.csv`` (means of all, of each class and of each size),
    ``evaluation.png`` and, of the worst images, ``panels/<id>.png`` are written to the output folder. In memory are the
    scores of all instances, and the run-length coded masks of the worst images.

    Raises:
        InputProblemsError: the dataset's or the split's problems, all of them.
        TargetExistsError: results exist and ``overwrite`` is false.
        MvtkError: a folder, device, model or extra is not there.
    """

    command: ClassVar[str] = "sam evaluate"

    def __init__(self, options: EvaluateSamOptions) -> None:
        self._options = options
        self._devices = options.worker_devices()
        require_installed("transformers", "sam")
        self._layout = read_layout(options.data)
        self._samples = [files for files in _chosen(self._layout, options) if options.shard.holds(files.id)]
        self._model = tuned_model(options.model)
        self._baseline = _baseline(options)
        existing = [path for path in self._results if path.exists()]
        if existing and not options.overwrite:
            raise TargetExistsError(existing[0])
        self._rows: list[InstanceRow] = []
        self._worst: list[tuple[float, str, str]] = []
        self._groups: list[GroupRow] = []

    @property
    def options(self) -> EvaluateSamOptions:
        """The options."""
        return self._options

    @property
    def size(self) -> int:
        """The number of samples of this shard."""
        return len(self._samples)

    @property
    def devices(self) -> tuple[str, ...]:
        """One worker a device; none for the CPU with ``workers=0``, which works in the calling process."""
        return () if self._devices == ("cpu",) and not self._options.workers else self._devices

    def plan(self) -> Iterator[EvaluationItem | Outcome]:
        """Yield the samples, by id."""
        return (EvaluationItem(files) for files in self._samples)

    def step(self) -> EvaluateSamStep:
        """Return the evaluation of one sample."""
        options = self._options
        settings = EvaluationSettings(
            model=self._model,
            baseline=self._baseline,
            class_count=self._layout.class_count,
            boundary_tolerance=options.boundary_tolerance,
            cache_dir=options.cache_dir or options.data / DEFAULT_FOLDER,
            cache_dtype=options.cache_dtype,
            with_masks=options.panels > 0,
        )
        return EvaluateSamStep(settings, options.images_at_once(self._devices), options.threads)

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Hold the output folder and remove what killed runs left there."""
        make_folder(self._options.output)
        with claimed_folder(self._options.output, self.command, self._options.shard):
            yield

    def watch(self, outcome: Outcome) -> Outcome:
        """Keep the scores, and the masks of the worst images; return the outcome without them."""
        details = dict(outcome.details)
        rows, masks = details.pop(ROWS, None), details.pop(MASKS, None)
        if rows is not None:
            self._rows += [InstanceRow.from_json(outcome.source, values) for values in json.loads(str(rows))]
        if masks is not None:
            heapq.heappush(self._worst, (-float(details["mean_iou"]), outcome.source, str(masks)))
            if len(self._worst) > self._options.panels:
                heapq.heappop(self._worst)  # the best of them
        return replace(outcome, details=details)

    def finish(self, figures: Figures) -> None:
        """Write tables, plots and panels of what was evaluated."""
        del figures
        if not self._rows:
            return
        options, names = self._options, self._layout.class_names
        rows = sorted(self._rows, key=lambda row: (row.sample, row.instance))
        self._groups = group_rows(rows, names)
        instances_path, groups_path, plot_path = self._results
        write_instances(instances_path, rows, names, overwrite=options.overwrite)
        write_groups(groups_path, self._groups, overwrite=options.overwrite)
        save_png(plot_path, draw_evaluation(rows, self._groups, self._title), overwrite=options.overwrite)
        self._draw_panels()

    def stats(self, figures: Figures) -> Mapping[str, Any]:
        """Return the mean scores of both models, over all instances and for each class and size."""
        del figures
        if not self._groups:
            return {}
        groups = [
            {
                "group": group.kind,
                "name": group.name,
                "instances": group.instances,
                "images": group.images,
                "means": dict(group.means),
                "baseline": group.baseline and dict(group.baseline),
                "improved": group.improved,
            }
            for group in self._groups
        ]
        return {
            "model": self._model,
            "baseline": self._baseline,
            "groups": groups,
            "remarks": [_remark(self._groups[0])],
        }

    @property
    def _results(self) -> tuple[Path, Path, Path]:
        output = self._options.output
        return output / INSTANCES_NAME, output / GROUPS_NAME, output / PLOT_NAME

    @property
    def _title(self) -> str:
        images = len({row.sample for row in self._rows})
        against = f" against {self._baseline}" if self._baseline else ""
        return f"{self._model}{against}: {self._options.data}, images: {images}, instances: {len(self._rows)}"

    def _draw_panels(self) -> None:
        """Draw the worst images."""
        folder = self._options.output / PANELS
        if self._worst:
            make_folder(folder)
        files_of = {files.id: files for files in self._samples}
        for _, sample_id, masks in self._worst:
            sample = load_sample(files_of[sample_id], self._layout.class_count)
            predicted_nhw = np.stack([decode_rle(rle) for rle in json.loads(masks)])
            panel = prediction_panel(
                sample.image_hwc, sample.masks_nhw, predicted_nhw, sample.boxes_xyxy, title=sample_id
            )
            save_png(folder / f"{sample_id}.png", panel, overwrite=True)


def _chosen(layout: SamLayout, options: EvaluateSamOptions) -> list[SampleFiles]:
    """Return the samples of the part that is to be evaluated."""
    path = options.split or options.data / SPLIT_NAME
    if options.part == "all" or (options.part == AUTO and options.split is None and not path.exists()):
        return list(layout.samples)
    split = load_split(path, layout.ids)
    wanted = set(split.train if options.part == "train" else split.val)
    return [files for files in layout.samples if files.id in wanted]


def _baseline(options: EvaluateSamOptions) -> str | None:
    if options.baseline == NONE:
        return None
    return untuned_model(options.model) if options.baseline == AUTO else tuned_model(options.baseline)


def _remark(group: GroupRow) -> str:
    """Return the mean scores of all instances as a line."""
    texts = []
    for metric, name in METRIC_NAMES.items():
        before = "" if group.baseline is None else f"{group.baseline[metric]:.3f} → "
        texts.append(f"{name} {before}{group.means[metric]:.3f}")
    better = "" if group.improved is None else f"; better IoU in {group.improved:.0%} of {group.instances} instances"
    return f"mean {', '.join(texts)}{better}"
