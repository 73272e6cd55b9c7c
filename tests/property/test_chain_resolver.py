"""The fast way through a chain against the slow one, for good images and for damaged ones."""

from __future__ import annotations

import struct
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt.errors import ImageError
from ckpt.images.chain import Chain
from ckpt.images.pagemap import PE_PARENT, PE_PRESENT
from ckpt.mem import resolve as resolve_module
from ckpt.mem.resolve import resolve
from ckpt.units import PAGE
from tests.property.test_images_chains import NAMES, Layer, build, chains
from tests.support.chain_sets import make, pages, span

if TYPE_CHECKING:
    from ckpt.images.chain import Piece

HEAD = 8 + 4 + 2


def slow_and_fast(directory: Path, name: str) -> tuple[object, object]:
    """What both give: pieces, or the text of the error."""
    found: list[object] = []
    for resolver in (None, resolve):
        try:
            with Chain(directory, verify=False, resolver=resolver) as chain:
                found.append(chain.resolve(name))
        except ImageError as error:
            found.append(str(error))
    return found[0], found[1]


@settings(max_examples=60)
@given(chains())
def test_both_ways_lead_to_the_same(chain: list[Layer]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), chain)
        for number, layer in enumerate(chain):
            for name in NAMES:
                slow, fast = slow_and_fast(Path(folder, str(number)), name)
                assert slow == fast
                assert isinstance(fast, list) == (name in layer.present)


@settings(max_examples=150)
@given(chains(), st.data())
def test_damage_is_the_slow_way_s_to_tell(chain: list[Layer], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        build(Path(folder), chain)
        name = data.draw(st.sampled_from(NAMES))
        for path in sorted(Path(folder).glob(f"*/{name}.img")):
            raw = bytearray(path.read_bytes())
            for _ in range(data.draw(st.integers(0, 2))):
                at = data.draw(st.integers(HEAD, max(HEAD, len(raw) - 1)))
                if at < len(raw):
                    raw[at] = data.draw(st.integers(0, 255))
            path.write_bytes(raw[: data.draw(st.integers(len(raw) - 2, len(raw)))])
        newest = Path(folder, str(len(chain) - 1))
        slow, fast = slow_and_fast(newest, name)
        assert slow == fast


def pieces(*images: bytes) -> list[tuple[int, ...]] | None:
    found = resolve([(memoryview(raw), number) for number, raw in enumerate(images)])
    return None if found is None else list(found[0])


def record(*fields: tuple[int, int]) -> bytes:
    body = b"".join(bytes([number << 3]) + varint(value) for number, value in fields)
    return struct.pack("<I", len(body)) + body


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


GOOD = ((1, 5 * PAGE), (2, 0), (4, PE_PRESENT), (5, 3))


def test_what_is_taken() -> None:
    assert pieces(record(*GOOD)) == [(5 * PAGE, 8 * PAGE, 0, 0, 0, PE_PRESENT)]
    assert pieces(record(*GOOD[::-1])) == pieces(record(*GOOD))
    assert pieces(b"") == []
    parent = record((1, 6 * PAGE), (2, 0), (4, PE_PARENT), (5, 1))
    assert pieces(parent, record(*GOOD)) == [(6 * PAGE, 7 * PAGE, 1, 1, PAGE, PE_PRESENT)]


@pytest.mark.parametrize(
    "raw",
    [
        record(*GOOD)[:-1],
        record(*GOOD) + b"\0",
        record(),
        record(*GOOD[1:]),
        record(GOOD[0], *GOOD[2:]),
        record(*GOOD[:2], GOOD[3]),
        record(*GOOD, (3, 1)),
        record(*GOOD, (6, 1)),
        record(*GOOD, (4, PE_PRESENT)),
        record((1, 5 * PAGE + 1), *GOOD[1:]),
        record((1, 1 << 62), (2, 0), (4, PE_PRESENT), (5, (1 << 50) + 1)),
        record((1, (1 << 63) - PAGE), (2, 0), (4, PE_PRESENT), (5, 2)),
        record((1, 1 << 63), (2, 0), (4, PE_PRESENT), (5, 1)),
        record(GOOD[0], (2, 1 << 32), *GOOD[2:]),
        record(*GOOD[:3], (5, 0)),
        record(*GOOD[:2], (4, 0), (5, 3)),
        record(*GOOD[:2], (4, 2), (5, 3)),
        record(*GOOD[:2], (4, 8), (5, 3)),
        record(*GOOD[:2], (4, PE_PARENT | PE_PRESENT), (5, 3)),
        record(*GOOD[:2], (4, PE_PARENT), (5, 3)),
        record(*GOOD) + record((1, 7 * PAGE), *GOOD[1:]),
    ],
)
def test_what_is_declined(raw: bytes) -> None:
    assert pieces(raw) is None
    assert pieces(record(*GOOD[:2], (4, PE_PARENT), (5, 1)), raw) is None


def test_the_fast_way_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a", [pages(0, 10, PE_PRESENT)])
    make(tmp_path / "b", [pages(0, 2, PE_PARENT), pages(2, 3, PE_PRESENT)], "../a")
    monkeypatch.setattr("ckpt.images.chain._Layer", None)
    with Chain(tmp_path / "b", resolver=resolve_module.resolve) as chain:
        found: list[Piece] = chain.resolve("pagemap-7")
        assert [(p.range, p.layer, p.offset) for p in found] == [
            (span(0, 2), 1, 0),
            (span(2, 5), 0, 0),
        ]
        assert chain.resolve("pagemap-7") is found


def test_a_pages_file_of_another_size(tmp_path: Path) -> None:
    make(tmp_path / "a", [pages(0, 10, PE_PRESENT)])
    with (tmp_path / "a" / "pages-3.img").open("ab") as file:
        file.write(bytes(PAGE))
    slow, fast = slow_and_fast(tmp_path / "a", "pagemap-7")
    assert slow == fast
    assert "10 pages" in str(fast)
