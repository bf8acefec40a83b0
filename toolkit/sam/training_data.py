"""Which images a run trains and validates on, and on which path they reach the decoder."""

from __future__ import annotations

import secrets
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from toolkit.annotations.problems import raise_problems
from toolkit.core.errors import MvtkError, collected
from toolkit.sam.data_loading import CachedSource, ImageSource, SampleSource
from toolkit.sam.embedding_cache import DEFAULT_FOLDER, EmbeddingCache
from toolkit.sam.encoding import EncodingRequest, encoding_requests, fill_cache, missing_requests
from toolkit.sam.layout import HINT, SamLayout, read_layout
from toolkit.sam.processes import Processes
from toolkit.sam.samples import SamSamples
from toolkit.sam.split_file import SPLIT_NAME, Split, load_split, sample_groups, split_samples
from toolkit.sam.train_options import PIXEL_AUGMENTATIONS, TrainOptions
from toolkit.sam.training_events import EncodingProgress, Notice
from toolkit.sam.variants import variant_names

if TYPE_CHECKING:
    from toolkit.sam.trainable_sam import TrainableSam


@dataclass(frozen=True, slots=True)
class TrainingImages:
    """The images of both sides that have instances.

    Attributes:
        train: to train on.
        val: to validate on.
        notices: what a user should know about them.
    """

    train: SamSamples
    val: SamSamples
    notices: tuple[str, ...]


def choose_images(options: TrainOptions) -> TrainingImages:
    """Return what a run trains and validates on: as the dataset's ``split.json`` says, or else by a split made here.

    Images without instances teach nothing and are left out. All masks and boxes are read once: what is wrong with one
    of them is told before hours are spent on embeddings.

    Raises:
        InputProblemsError: all that is wrong with masks and boxes.
        MvtkError: the dataset or its split cannot be read, or a side has no instances.
    """
    layout = read_layout(options.data)
    split, source = _split(layout, options)
    counts = {files.id: len(files.mask_names) for files in layout.samples}
    notices = list(_notices(split, counts, source))
    sides = []
    for name, ids in (("training", split.train), ("validation", split.val)):
        usable = [sample_id for sample_id in ids if counts[sample_id]]
        if not usable:
            raise MvtkError(f"{options.data}: no {name} image has instances", "see mvtk sam verify, and mvtk sam split")
        sides.append(SamSamples(layout, usable))
    _require_usable(SamSamples(layout, [*sides[0].ids, *sides[1].ids]), options.threads)
    return TrainingImages(sides[0], sides[1], tuple(notices))


def prepare_sources(
    options: TrainOptions, images: TrainingImages, sam: TrainableSam, processes: Processes
) -> Generator[EncodingProgress | Notice, None, tuple[SampleSource, SampleSource]]:
    """Compute the embeddings that are missing, and return the sources of training and validation samples.

    Validation images are never changed: theirs are cached also where those of training cannot be.

    Raises:
        StopRunError: no space is left for the embeddings.
        MvtkError: an image cannot be read or encoded; the line names it.
    """
    variants = variant_names(options.cache_variants)
    yield from map(Notice, _path_notices(options, images))
    if not options.cache:
        return (
            ImageSource(images.train, sam.geometry, augmentation=options.augment, variants=variants, seed=options.seed),
            ImageSource(images.val, sam.geometry),
        )
    folder = options.cache_dir or options.data / DEFAULT_FOLDER
    cache = EmbeddingCache(folder, sam.model_hash, options.cache_dtype)
    val_requests = encoding_requests(images.val, variant_names("none"), options.threads)
    train_requests = encoding_requests(images.train, variants, options.threads) if options.uses_cache else []
    yield from _encode(options, sam, cache, [*train_requests, *val_requests], processes)
    val = CachedSource(images.val, sam.geometry, cache, _hashes(val_requests, 1))
    if not options.uses_cache:
        train: SampleSource = ImageSource(
            images.train, sam.geometry, augmentation=options.augment, variants=variants, seed=options.seed
        )
    else:
        train = CachedSource(
            images.train,
            sam.geometry,
            cache,
            _hashes(train_requests, len(variants)),
            jitters_boxes="boxes" in options.augment,
            variants=variants,
            seed=options.seed,
        )
    return train, val


def _require_usable(samples: SamSamples, threads: int) -> None:
    def problems(index: int) -> list[str]:
        found: list[str] = []
        with collected(found):
            samples.instances(index)
        return found

    with ThreadPoolExecutor(threads, "checker") as pool:
        found = [problem for each in pool.map(problems, range(len(samples))) for problem in each]
    raise_problems(str(samples.layout.root), found, HINT)


def _encode(
    options: TrainOptions,
    sam: TrainableSam,
    cache: EmbeddingCache,
    requests: Sequence[EncodingRequest],
    processes: Processes,
) -> Generator[EncodingProgress | Notice, None, None]:
    """Fill the cache; of what is missing each process does its part, and so do two runs at once, more or less."""
    missing = missing_requests(cache, requests)
    processes.wait()  # all have listed what is missing before the first begins to add to it
    own = missing[processes.rank :: processes.count]
    # In an order of its own, so that another run that makes the same embeddings at this moment makes others first.
    shuffled = secrets.SystemRandom().sample(own, len(own))
    still_missing = (request for request in shuffled if request.key not in cache)
    yield Notice(f"{len(requests) - len(missing)} of {len(requests)} embeddings are in {cache.folder}")
    started_s = time.perf_counter()
    done, size_bytes = 0, 0
    encoded = fill_cache(sam, cache, still_missing, batch_size=options.batch_size, threads=options.threads)
    for done, each in enumerate(encoded, start=1):
        size_bytes += each.size_bytes
        yield EncodingProgress(done, len(own))
    if own:
        seconds = time.perf_counter() - started_s
        others = f", and {len(own) - done} came from another run" if done < len(own) else ""
        yield Notice(f"{done} embeddings took {seconds:.1f} s and {size_bytes / 1e6:.1f} MB{others}")
    processes.wait()


def _hashes(requests: Sequence[EncodingRequest], variant_count: int) -> list[str]:
    """Return the hash of each image, whose variants' requests stand together."""
    return [request.key.image_hash for request in requests[::variant_count]]


def _path_notices(options: TrainOptions, images: TrainingImages) -> Iterator[str]:
    """Say which path runs, why, and what it costs."""
    variant_count = len(variant_names(options.cache_variants))
    if options.uses_cache:
        encoded = variant_count * len(images.train) + len(images.val)
        yield (
            f"cached path: the encoder runs once for each of {encoded} embeddings"
            f" ({variant_count} variant(s) of a training image), then the decoder runs alone"
        )
        return
    pixels = [name for name in options.augment if name in PIXEL_AUGMENTATIONS]
    reason = f"--augment {','.join(pixels)} changes images" if pixels else "the cache is switched off"
    val = "validation images are cached" if options.cache else f"and {len(images.val)} to validate on"
    yield f"full path, as {reason}: the encoder runs for {len(images.train)} images in every epoch; {val}"


def _split(layout: SamLayout, options: TrainOptions) -> tuple[Split, str]:
    path = options.data / SPLIT_NAME
    if path.exists():
        return load_split(path, frozenset(layout.ids)), f"as {path.name} says"
    counts = {files.id: len(files.mask_names) for files in layout.samples}
    split = split_samples(
        counts,
        options.val_size,
        stratify_by_box_count=options.stratify_by_box_count,
        seed=options.seed,
        groups=sample_groups(layout),
    )
    return split, f"split here with seed {options.seed}: there is no {path.name}"


def _notices(split: Split, counts: dict[str, int], source: str) -> Iterator[str]:
    instances = [sum(counts[sample_id] for sample_id in ids) for ids in (split.train, split.val)]
    yield (
        f"{len(split.train)} images with {instances[0]} instances to train on,"
        f" {len(split.val)} with {instances[1]} to validate on ({source})"
    )
    empty = sum(not counts[sample_id] for sample_id in (*split.train, *split.val))
    if empty:
        yield f"images without instances are left out: {empty}"
