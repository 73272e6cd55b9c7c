"""Sums per block, also of files that grow."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from ckpt.errors import ImageError
from ckpt.images import checksums
from ckpt.images.checksums import FileSum, GrowingSum, Verification, from_message, sum_bytes
from tests.support.image_set import new

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checksums, "BLOCK", 8192)
    monkeypatch.setattr(checksums, "_STRIDE", 1000)
    monkeypatch.setattr(checksums, "_JOB", 16384)


@pytest.mark.parametrize("size", [0, 1, 8191, 8192, 8193, 50_000])
@pytest.mark.parametrize("steps", [[], [1], [8192, 20_000], [9_000]])
def test_a_growing_file_has_the_sums_of_its_bytes(
    tmp_path: Path, size: int, steps: list[int]
) -> None:
    data = os.urandom(size)
    pool = checksums.summing_pool()
    with (tmp_path / "pages-1.img").open("w+b", buffering=0) as file:
        growing = GrowingSum("pages-1.img", file.fileno(), pool)
        at = 0
        for step in [s for s in steps if s <= size]:
            file.write(data[at:step])
            growing.advance(step)
            at = step
        file.write(data[at:])
        found = growing.finish(size)
    pool.shutdown()
    wanted = sum_bytes("pages-1.img", data)
    assert (found.sums, found.size) == (wanted.sums, size)
    assert len(found.sums) == -(-size // 8192)


def test_the_sum_is_xxh3() -> None:
    import xxhash

    assert sum_bytes("f", b"abc").sums == (xxhash.xxh3_64_intdigest(b"abc"),)


def test_the_first_rotten_block_is_named(tmp_path: Path) -> None:
    data = bytearray(os.urandom(50_000))
    wanted = FileSum("pages-1.img", len(data), sum_bytes("", bytes(data)).sums, 8192)
    for place in (0, 8191, 8192, 49_999):
        bad = bytearray(data)
        bad[place] ^= 1
        (tmp_path / "pages-1.img").write_bytes(bad)
        with (tmp_path / "pages-1.img").open("rb") as file:
            verification = Verification([(wanted, file.fileno(), wanted.blocks())])
            block = place // 8192 * 8192
            with pytest.raises(ImageError, match=f"rotten at byte {block}:"):
                verification.wait()


def test_sums_of_other_blocks_are_understood(tmp_path: Path) -> None:
    """As sets have them that were written before."""
    import xxhash

    data = bytearray(os.urandom(50_000))
    sums = [xxhash.xxh3_64_intdigest(data[at : at + 20_480]) for at in (0, 20_480, 40_960)]
    one = {"name": "pages-1.img", "size": len(data), "sums": sums}
    found = from_message(entry(block=20_480, files=[one]), "ckpt-checksums.img")
    assert found is not None
    data[40_000] ^= 1
    (tmp_path / "pages-1.img").write_bytes(data)
    with (tmp_path / "pages-1.img").open("rb") as file:
        good = Verification([(found["pages-1.img"], file.fileno(), [0, 2])])
        good.wait()
        bad = Verification([(found["pages-1.img"], file.fileno(), [0, 1, 2])])
        with pytest.raises(ImageError, match="rotten at byte 20480:"):
            bad.wait()


def test_a_verification_can_be_left(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(bytes(50_000))
    with (tmp_path / "f").open("rb") as file:
        wanted = FileSum("f", 50_000, sum_bytes("", bytes(50_000)).sums, 8192)
        verification = Verification([(wanted, file.fileno(), wanted.blocks())] * 100)
        verification.cancel()
        verification.cancel()


def entry(**fields: Any) -> Any:
    given = {"algorithm": "xxh3-64", "block": 8192, **fields}
    return new("ckpt_checksums.ckpt_checksums_entry", **given)


@pytest.mark.parametrize(
    "fields",
    [
        {"block": 0},
        {"block": 5000},
        {"block": 1 << 40},
        {"files": [{"name": "../core-1.img", "size": 0}]},
        {"files": [{"name": "core-1.img", "size": 1}]},
        {"files": [{"name": "core-1.img", "size": 1 << 63, "sums": [1, 2]}]},
        {"files": [{"name": "core-1.img", "size": 0}] * 2},
    ],
)
def test_sums_that_make_no_sense(fields: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match=r"sums.img: is damaged"):
        from_message(entry(**fields), "sums.img")


def test_an_algorithm_of_the_future_verifies_nothing() -> None:
    assert from_message(entry(algorithm="sha3"), "f") is None
