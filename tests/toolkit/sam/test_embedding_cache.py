from __future__ import annotations

import hashlib
import os
import pickle
import stat
from pathlib import Path

import pytest
import torch

from toolkit.core.errors import MvtkError, StopRunError
from toolkit.sam.embedding import Embedding
from toolkit.sam.embedding_cache import EmbeddingCache, EmbeddingKey, hash_image

KEY = EmbeddingKey("ab" * 16)


def _embedding(images: int = 1, seed: int = 0) -> Embedding:
    generator = torch.Generator().manual_seed(seed)
    return Embedding(
        (torch.randn(images, 4, 8, 8, generator=generator), torch.randn(images, 6, 2, 2, generator=generator))
    )


def _equal(ours: Embedding, theirs: Embedding) -> bool:
    return all(torch.equal(mine, yours) for mine, yours in zip(ours.levels, theirs.levels, strict=True))


def test_what_is_put_is_got_bit_for_bit(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path / "cache", "cd" * 16)
    batch = _embedding(3)

    size_bytes = cache.put(KEY, batch[1])

    assert _equal(cache.get(KEY), batch[1])
    assert cache.path(KEY).stat().st_size == size_bytes
    assert size_bytes < batch.levels[0].nbytes, "only one image of the batch"


def test_another_run_finds_it_by_the_same_facts_only(tmp_path: Path) -> None:
    EmbeddingCache(tmp_path, "cd" * 16).put(KEY, _embedding())

    assert KEY in pickle.loads(pickle.dumps(EmbeddingCache(tmp_path, "cd" * 16)))
    assert KEY not in EmbeddingCache(tmp_path, "ce" * 16)
    assert KEY not in EmbeddingCache(tmp_path, "cd" * 16, "float16")
    assert KEY._replace(variant="flip_x") not in EmbeddingCache(tmp_path, "cd" * 16)


def test_float16_takes_half_the_space(tmp_path: Path) -> None:
    half, full = EmbeddingCache(tmp_path, "cd", "float16"), EmbeddingCache(tmp_path, "cd")
    half.put(KEY, _embedding())
    full.put(KEY, _embedding())

    loaded = half.get(KEY)

    assert loaded.levels[0].dtype == torch.float16
    assert half.size().size_bytes < 0.6 * full.size().size_bytes
    torch.testing.assert_close(loaded.to(dtype=torch.float32).levels[0], _embedding().levels[0], rtol=1e-3, atol=1e-3)


def test_levels_keep_their_order_by_number(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, "cd")
    many = Embedding(tuple(torch.full((1, 1, 1, 1), float(number)) for number in range(12)))

    cache.put(KEY, many)

    assert _equal(cache.get(KEY), many)


def test_missing_names_each_once_in_order(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, "cd")
    keys = [EmbeddingKey(digit * 32) for digit in "3121"]
    cache.put(keys[2], _embedding())

    assert cache.missing(keys) == [keys[0], keys[1]]


def test_two_runs_may_store_the_same(tmp_path: Path) -> None:
    first, second = EmbeddingCache(tmp_path, "cd"), EmbeddingCache(tmp_path, "cd")
    first.put(KEY, _embedding())
    reading = first.get(KEY)

    second.put(KEY, _embedding())

    assert _equal(reading, _embedding())
    assert _equal(second.get(KEY), _embedding())
    assert first.size().files == 1


def test_an_embedding_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=rf"{KEY.image_hash}-identity.safetensors: the embedding is gone; run the"):
        EmbeddingCache(tmp_path, "cd").get(KEY)


@pytest.mark.parametrize("kept_bytes", [0, 4, 40, 200])
def test_a_damaged_file_is_named_with_what_to_do(tmp_path: Path, kept_bytes: int) -> None:
    cache = EmbeddingCache(tmp_path, "cd")
    cache.put(KEY, _embedding())
    os.truncate(cache.path(KEY), kept_bytes)

    with pytest.raises(MvtkError, match=rf"{KEY.image_hash}-identity.safetensors: not an embedding.*delete the file"):
        cache.get(KEY)


@pytest.mark.parametrize("value", [float("nan"), 70000.0])
def test_what_is_not_finite_is_not_stored(tmp_path: Path, value: float) -> None:
    cache = EmbeddingCache(tmp_path, "cd", "float16")

    with pytest.raises(MvtkError, match="not finite numbers, and is not stored; check the model's weights"):
        cache.put(KEY, Embedding((torch.full((1, 1, 2, 2), value),)))

    assert KEY not in cache


def test_a_full_disk_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = EmbeddingCache(tmp_path, "cd")
    cache.put(KEY, _embedding())
    other = KEY._replace(variant="flip_x")

    def no_space(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)

    with pytest.raises(StopRunError, match="No space left on device; free some space"):
        cache.put(other, _embedding())
    assert other not in cache


def test_prune_keeps_what_is_named_and_all_that_is_no_embedding(tmp_path: Path) -> None:
    cache, other = EmbeddingCache(tmp_path, "cd"), EmbeddingCache(tmp_path, "ef")
    gone = KEY._replace(variant="flip_x")
    size_bytes = [cache.put(key, _embedding()) for key in (KEY, gone)] + [other.put(KEY, _embedding())]
    (tmp_path / "notes.txt").write_text("mine")
    before = cache.size()

    removed = cache.prune([KEY])

    assert (before.files, before.size_bytes) == (2, sum(size_bytes[:2]))
    assert (removed.files, removed.size_bytes) == (2, sum(size_bytes[1:]))
    assert KEY in cache
    assert gone not in cache
    assert KEY not in other
    assert {path.name for path in tmp_path.iterdir()} == {"cd-float32", "notes.txt"}


def test_the_size_of_a_cache_that_is_not_there_is_nothing(tmp_path: Path) -> None:
    assert EmbeddingCache(tmp_path / "none", "cd").size().files == 0


def test_an_image_is_known_by_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"pixels")

    assert hash_image(path) == hashlib.blake2b(b"pixels", digest_size=16).hexdigest()


def test_an_image_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MvtkError, match=r"none.png: cannot read: No such file or directory; check the path"):
        hash_image(tmp_path / "none.png")


def test_files_have_the_mode_that_the_umask_leaves(tmp_path: Path) -> None:
    cache = EmbeddingCache(tmp_path, "cd")
    before = os.umask(0o027)
    try:
        cache.put(KEY, _embedding())
    finally:
        os.umask(before)

    assert stat.S_IMODE(cache.path(KEY).stat().st_mode) == 0o640
