"""Hostile images: an ImageError or a valid parse, and memory in proportion to the file."""

from __future__ import annotations

import os
import tracemalloc
from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt.cli.show import plain_lines
from ckpt.errors import ImageError
from ckpt.images import checksums, framing, pagemap
from ckpt.images.framing import encode
from ckpt.images.pagemap import PE_LAZY, PE_PARENT, PE_PRESENT, Run
from ckpt.images.reader import ImageSet
from ckpt.images.summary import summarise
from ckpt.images.text import bad_text, get_text, set_text
from ckpt.images.types import TYPES, parse_file_name
from ckpt.units import PAGE
from tests.support.image_set import new, owner, write_set

MANY = settings(max_examples=400)


@cache
def originals() -> dict[str, bytes]:
    """The files of the synthetic set, but for the pages."""
    with TemporaryDirectory() as directory:
        write_set(Path(directory))
        return {
            path.name: path.read_bytes()
            for path in Path(directory).iterdir()
            if not path.name.startswith("pages-")
        }


@st.composite
def mutations(draw: st.DrawFn) -> tuple[str, bytes]:
    """A file and what some blows made of its bytes."""
    file = draw(st.sampled_from(sorted(originals())))
    data = bytearray(originals()[file])
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        kind = draw(st.sampled_from(["flip", "size", "cut", "insert", "repeat"]))
        if kind == "flip" and data:
            data[place] ^= draw(st.integers(1, 255))
        elif kind == "size":
            size = draw(st.sampled_from([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, len(data)]))
            data[place : place + 4] = size.to_bytes(4, "little")
        elif kind == "cut":
            del data[place:]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=40))
        else:
            data += data[place:]
    return file, bytes(data)


def parse(file: str, data: bytes) -> list[framing.Record] | None:
    image = parse_file_name(file)
    assert image is not None
    try:
        return framing.decode_as(image.type, data, file)
    except ImageError as error:
        assert file in str(error)
        return None


@MANY
@given(mutations())
def test_mutated_images_are_refused_or_parse(mutation: tuple[str, bytes]) -> None:
    file, data = mutation
    records = parse(file, data)
    for record in records or []:
        assert record.message.IsInitialized()
        assert len(record.payload) <= len(data)
        assert not bad_text(record.message)
    if records and file.startswith("pagemap"):
        try:
            runs = pagemap.from_messages([r.message for r in records], file).runs
        except ImageError:
            return
        assert all(a.range.end <= b.addr for a, b in pairwise(runs))
    if records and file == "ckpt-checksums.img":
        try:
            sums: Any = records[0].message
            checksums.from_message(sums, file)
        except ImageError as error:
            assert "damaged" in str(error)


@MANY
@given(st.sampled_from(sorted(TYPES)), st.binary(max_size=200))
def test_noise_behind_a_right_magic(stem: str, noise: bytes) -> None:
    image_type = TYPES[stem]
    if image_type.entry:
        data = framing.head(image_type) + noise
        try:
            framing.decode_as(image_type, data, stem)
        except ImageError as error:
            assert stem in str(error)


@pytest.mark.parametrize("file", sorted(originals()))
def test_every_cut_is_refused_or_parses(file: str) -> None:
    data = originals()[file]
    for end in range(0, len(data), max(1, len(data) // 200)):
        records = parse(file, data[:end])
        if records is not None:
            # Only a cut between messages can parse.
            assert sum(1 for _ in records) < 100


@pytest.mark.parametrize("file", sorted(originals()))
def test_hostile_sizes_take_no_memory(file: str) -> None:
    image = parse_file_name(file)
    assert image is not None
    head = len(framing.head(image.type))
    data = originals()[file]
    parse(file, data)
    tracemalloc.start()
    try:
        for size in (0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 1 << 20):
            assert parse(file, data[:head] + size.to_bytes(4, "little") + data[head:]) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


@settings(max_examples=60)
@given(mutations())
def test_a_set_with_a_mutated_image_is_refused(mutation: tuple[str, bytes]) -> None:
    """With sums, nothing but the original is accepted."""
    file, data = mutation
    if data == originals()[file] or file in ("stats-dump", "cpuinfo.img", "ckpt-checksums.img"):
        return
    with TemporaryDirectory() as directory:
        for name, content in originals().items():
            Path(directory, name).write_bytes(data if name == file else content)
        for number in (1, 10, 20):
            Path(directory, f"pages-{number}.img").touch()
        with pytest.raises(ImageError, match=file), ImageSet(directory) as images:
            images.read(file.removesuffix(".img"))


@settings(max_examples=120)
@given(mutations())
def test_a_mutated_set_is_shown_or_refused(mutation: tuple[str, bytes]) -> None:
    """Without sums the mutated image itself is looked at."""
    file, data = mutation
    with TemporaryDirectory() as directory:
        for name, content in originals().items():
            if name != "ckpt-checksums.img":
                Path(directory, name).write_bytes(data if name == file else content)
        for number, nr_pages in ((1, 1), (10, 3), (20, 3)):
            Path(directory, f"pages-{number}.img").write_bytes(bytes(nr_pages * PAGE))
        try:
            with ImageSet(directory) as images:
                lines = list(plain_lines(summarise(images)))
        except ImageError as error:
            assert error.exit_code == 5
            return
        assert len(lines) >= 2
        assert all(line.isprintable() for line in lines)


@st.composite
def run_lists(draw: st.DrawFn) -> list[Run]:
    runs, addr = [], 0
    for _ in range(draw(st.integers(0, 20))):
        addr += draw(st.integers(0, 1 << 20)) * PAGE
        count = draw(st.one_of(st.integers(1, 100), st.integers(1 << 32, 1 << 34)))
        flags = draw(st.sampled_from([PE_PARENT, PE_LAZY, PE_PRESENT, PE_LAZY | PE_PRESENT]))
        runs.append(Run(addr, count, flags))
        addr += count * PAGE
    return runs


@MANY
@given(run_lists())
def test_runs_round_trip(runs: list[Run]) -> None:
    data = encode("pagemap-1", pagemap.pagemap_messages(9, runs))
    messages: list[Any] = [r.message for r in framing.decode("pagemap-1", data)]
    read = pagemap.from_messages(messages, "pagemap-1")
    assert pagemap.merge_runs(read.runs) == pagemap.merge_runs(runs)
    assert read.nr_present == sum(run.nr_pages for run in runs if run.flags & PE_PRESENT)


@MANY
@given(st.lists(st.binary(max_size=300), max_size=8))
def test_payloads_round_trip(payloads: list[bytes]) -> None:
    items = [
        (new("pipe_data.pipe_data_entry", pipe_id=number, bytes=len(data)), data)
        for number, data in enumerate(payloads)
    ]
    records = framing.decode("pipes-data", encode("pipes-data", items))
    assert [bytes(record.payload) for record in records] == payloads


@MANY
@given(st.binary(max_size=300).filter(lambda raw: 0 not in raw))
def test_names_round_trip(raw: bytes) -> None:
    reg = new("regfile.reg_file_entry", id=1, flags=0, pos=0, fown=owner(), name="")
    set_text(reg, "name", os.fsdecode(raw))
    file = new("fdinfo.file_entry", type=1, id=1, reg=reg)
    (record,) = framing.decode("files", encode("files", [file]))
    decoded: Any = record.message
    assert os.fsencode(get_text(decoded.reg, "name")) == raw
