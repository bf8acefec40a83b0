"""Make a folder of SAM training data from a Label Studio export: one sample a task, one mask a region."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final, Literal

from pydantic import Field, SecretStr

from toolkit.annotations.label_studio import (
    NO_RESULTS,
    AnnotationChoice,
    PredictionUse,
    RegionKind,
    Task,
    choose_annotations,
    list_labels,
    load_export,
)
from toolkit.annotations.label_studio_regions import ALPHA_THRESHOLD, Region, parse_regions
from toolkit.core.batch import Outcome
from toolkit.core.errors import MvtkError, OptionError
from toolkit.images import ExifPolicy
from toolkit.images.search import ImageLookupError, image_stem, is_image
from toolkit.sam.downloads import MAX_DOWNLOAD_BYTES, LabelStudioServer
from toolkit.sam.image_references import ImageFinder, path_parts
from toolkit.sam.import_job import (
    EMPTY_OBJECT,
    OTHER_LABEL,
    ImportItem,
    ImportJob,
    ImportOptions,
    ImportStep,
    Remarks,
    choose_classes,
    digest_of,
    failed_entry,
    repeated_groups,
)
from toolkit.sam.import_writing import ImportedObject, require_usable_id, stage

NOT_ANNOTATED: Final = "not annotated"
UNUSABLE_TASK: Final = "unusable task"
UNLABELLED: Final = "object"
"""The class of regions without a label."""

_FILLED: Final[Mapping[RegionKind, str]] = {
    "rectangle": "rectangles are filled: their masks are no outlines of objects",
    "ellipse": "ellipses are filled: their masks are rough outlines of objects",
}
_ALL_KINDS: Final[tuple[RegionKind, ...]] = ("brush", "polygon", "rectangle", "ellipse")


class ImportLabelStudioOptions(ImportOptions):
    """The options of an import from Label Studio.

    Attributes:
        export: the file, exported as JSON.
        annotations: which one of a task's annotations counts, or whether all do; see
            :func:`toolkit.annotations.label_studio.choose_annotations`.
        predictions: whether those of models count.
        shapes: which kinds of regions are objects.
        alpha_threshold: a brush mask's pixel is inside from this alpha on, 0 to 255.
        image_key: which of a task's data is its image; None: ``image``, or the only one that looks like one.
        to_name: the image in the labelling interface whose regions count, where a task has several.
        ids: what samples are called by: the number of their task, or the stem of their image.
        exif: as for the other imports; browsers show images as EXIF data turn them.
        url: the server to download images from that are not below ``images``.
        token: an access token for it.
        other_hosts: further hosts that images may be downloaded from, without the token.
        max_download_bytes: a larger image is refused.
        timeout_s: how long the server may stay silent.
    """

    export: Path
    annotations: AnnotationChoice = "last"
    predictions: PredictionUse = "ignore"
    shapes: tuple[RegionKind, ...] = Field(default=_ALL_KINDS, min_length=1)
    alpha_threshold: int = Field(default=ALPHA_THRESHOLD, ge=1, le=255)
    image_key: str | None = None
    to_name: str | None = None
    ids: Literal["task", "image"] = "task"
    exif: ExifPolicy = "apply"
    url: str | None = None
    token: SecretStr = SecretStr("")
    other_hosts: tuple[str, ...] = ()
    max_download_bytes: int = Field(default=MAX_DOWNLOAD_BYTES, ge=1)
    timeout_s: float = Field(default=30.0, gt=0)


@dataclass(frozen=True, slots=True)
class LabelStudioItem(ImportItem):
    """One task to import.

    Attributes:
        task_id: its id in Label Studio.
        file_upload: the name of its uploaded file; may be empty.
        results: of each annotation that counts, as JSON.
    """

    task_id: int | str
    file_upload: str
    results: tuple[bytes, ...]


class ImportTask(ImportStep[LabelStudioItem, ImportLabelStudioOptions]):
    """Import one task."""

    def __init__(self, options: ImportLabelStudioOptions, class_names: Sequence[str]) -> None:
        super().__init__(options, class_names)
        self._finder: ImageFinder | None = None
        self._server: LabelStudioServer | None = None

    def setup(self, device: str) -> None:
        """Prepare to find images."""
        del device
        options = self._options
        if options.images is not None:
            self._finder = ImageFinder(options.images, options.image_match, options.image_prefix)
        if options.url is not None:
            self._server = LabelStudioServer(
                options.url,
                options.token.get_secret_value(),
                other_hosts=options.other_hosts,
                max_bytes=options.max_download_bytes,
                timeout_s=options.timeout_s,
            )

    def find_image(self, item: LabelStudioItem, staging: Path) -> Path:
        """Return the image of a task: that below the folder of images, else as the server has it."""
        path_parts(item.reference)  # what would lead out of a folder is not asked of a server either
        if self._finder is not None:
            try:
                return self._finder.find(item.reference, *filter(None, [item.file_upload]))
            except ImageLookupError:
                if self._server is None:
                    raise
        if self._server is None:
            raise MvtkError("there is neither a folder with images nor a server", "give --images or --url")
        return stage(staging / "download", self._server.fetch(item.reference, item.task_id))

    def objects(self, item: LabelStudioItem, height: int, width: int, remarks: Remarks) -> Iterator[ImportedObject]:
        """Yield the regions of a task as masks."""
        for region in self._regions(item, remarks):
            class_id = self.class_id(_label(region, remarks))
            if class_id is None:
                remarks.add(OTHER_LABEL)
                continue
            mask_hw = region.mask_hw(height, width, alpha_threshold=self._options.alpha_threshold)
            if not mask_hw.any():
                remarks.add(EMPTY_OBJECT)
                continue
            if region.kind in _FILLED:
                remarks.add(_FILLED[region.kind])
            yield ImportedObject(class_id, mask_hw)

    def _regions(self, item: LabelStudioItem, remarks: Remarks) -> list[Region]:
        regions: list[Region] = []
        for results in item.results:
            found = parse_regions(results, self._options.shapes)
            regions += found.regions
            for left_out in found.left_out:
                remarks.add(f"{left_out} are left out")
        wanted = self._options.to_name
        names = sorted({region.to_name for region in regions})
        if wanted is None and len(names) > 1:
            hint = "choose one with --to-name"
            raise MvtkError(f"the regions are drawn in several images: {', '.join(map(repr, names))}", hint)
        return [region for region in regions if wanted is None or region.to_name == wanted]


class ImportLabelStudioJob(ImportJob[LabelStudioItem, ImportLabelStudioOptions]):
    """The import of one export.

    Raises:
        OptionError: options that contradict each other.
        InputProblemsError: all labels that are none of the classes.
        MvtkError: the export cannot be read, or the output folder cannot be used.
    """

    command: ClassVar[str] = "sam import-label-studio"

    def __init__(self, options: ImportLabelStudioOptions) -> None:
        if options.images is None and options.url is None:
            raise OptionError("there is neither a folder with images nor a server", "give --images, --url or both")
        if options.token.get_secret_value() and options.url is None:
            raise OptionError("--token without --url", "give the address of the server, too")
        ImportTask(options, ()).setup("")  # the folder is there, and the address is one
        export = load_export(options.export)
        chosen = [choose_annotations(task, options.annotations, options.predictions) for task in export.tasks]
        results = [[annotation.results for annotation in annotations] for annotations in chosen]
        class_names = choose_classes(_labels(results, options), options)
        planner = _Planner(options, class_names)
        entries = [planner.entry(*each) for each in zip(export.tasks, results, strict=True)]
        entries += [Outcome.failed(place, text, UNUSABLE_TASK) for place, text in export.problems]
        if not entries:
            raise MvtkError(f"{options.export}: it has no tasks", "export a project that has some")
        super().__init__(options, entries, class_names, planner.groups())

    def step(self) -> ImportTask:
        """Return the import of one task."""
        return ImportTask(self.options, self.class_names)


class _Planner:
    """Decides what becomes of each task.

    Args:
        options: the job's.
        class_names: of the classes 0, 1, ….
    """

    def __init__(self, options: ImportLabelStudioOptions, class_names: Sequence[str]) -> None:
        self._options = options
        fields = {"shapes", "alpha_threshold", "to_name", "exif"}
        self._settings = repr((class_names, options.model_dump(mode="json", include=fields))).encode()
        self._first_of: dict[str, str] = {}
        self._group_of: dict[str, str] = {}

    def groups(self) -> dict[str, str]:
        """Return a group for tasks of one image."""
        return repeated_groups(self._group_of)

    def entry(self, task: Task, results: Sequence[bytes]) -> LabelStudioItem | Outcome:
        """Return the item of a task, or why it is none."""
        source = str(task.id)
        try:
            reference = _reference(task, self._options.image_key)
            if self._options.ids == "image":
                source = _stem(reference)
            require_usable_id(source)
            if source in self._group_of:
                hint = "two tasks have it" if self._options.ids == "task" else "use --ids task"
                return Outcome.failed(source, f"there is another sample {source!r}; {hint}", UNUSABLE_TASK)
        except MvtkError as error:
            return failed_entry(f"task {task.id}", error, UNUSABLE_TASK)
        self._group_of[source] = self._first_of.setdefault(reference, source)
        if not any(each != NO_RESULTS for each in results):
            return Outcome.skipped(source, NOT_ANNOTATED)
        digest = digest_of([self._settings, reference.encode(), *results])
        return LabelStudioItem(source, reference, digest, task.id, task.file_upload, tuple(results))


def _reference(task: Task, key: str | None) -> str:
    """Return the image of a task.

    Raises:
        MvtkError: it cannot be told.
    """
    if key is None:
        images = [name for name, text in task.data.items() if is_image(text.partition("?")[0])]
        key = "image" if "image" in task.data or len(images) != 1 else images[0]
    if key not in task.data:
        keys = ", ".join(map(repr, task.data)) or "none"
        hint = f"name the one with the image with --image-key; those that are texts: {keys}"
        raise MvtkError(f"its data has no text {key!r}", hint)
    return task.data[key]


def _stem(reference: str) -> str:
    name = path_parts(reference)[-1]
    return image_stem(name) or name


def _labels(results: Sequence[Sequence[bytes]], options: ImportLabelStudioOptions) -> list[str]:
    """Return all labels that regions have, sorted."""
    labels = {label for each in results for result in each for label in list_labels(result, options.shapes)}
    return sorted({label or UNLABELLED for label in labels})


def _label(region: Region, remarks: Remarks) -> str:
    if not region.labels:
        remarks.add(f"regions without a label are of the class {UNLABELLED!r}")
        return UNLABELLED
    if len(region.labels) > 1:
        remarks.add("of several labels of a region the first one counts")
    return region.labels[0]
