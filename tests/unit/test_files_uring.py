"""Rings of io_uring in images that nobody's dump would write, and those of plugins of CRIU."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ckpt.errors import ImageError, RestoreError
from ckpt.files import FilesRestore, RestoreFileOptions, uringring
from ckpt.files.uring import UringDump
from ckpt.images.reader import ImageSet
from ckpt.images.types import message_class
from ckpt.units import PAGE
from tests.support import descriptors as ds

EXT = 16
FOWN = {"uid": 0, "euid": 0, "signum": 0, "pid_type": 0, "pid": 0}
OFFSETS = (0, 4, 16, 24, 36, 32, 320, 8, 12, 20, 28, 44, 64, 40)
NR = 7


def new(ref: str, **fields: Any) -> Any:
    cls: Any = message_class(ref)
    return cls(**fields)


def rings(sq_head: int = NR, sq_tail: int = NR, cq_head: int = NR, cq_tail: int = NR) -> bytes:
    return struct.pack("<4I", sq_head, sq_tail, cq_head, cq_tail).ljust(PAGE, b"\0")


def ring(**fields: Any) -> Any:
    known = {"id": 1, "flags": 2, "sq_entries": 8, "cq_entries": 16, "submitted": NR}
    memory = {"offsets": OFFSETS, "rings": rings(), "sqes": bytes(PAGE)}
    return new("ckpt_uring.ckpt_uring_entry", **{**known, **memory, **fields})


def write(folder: Path, *found: Any) -> None:
    images = {
        "files": [new("fdinfo.file_entry", type=EXT, id=1, ext={"id": 1, "fown": FOWN})],
        "fdinfo-1": [new("fdinfo.fdinfo_entry", id=1, flags=0, type=EXT, fd=3)],
    }
    ds.write_set(folder, {**images, "ckpt-uring": list(found)} if found else images)


HOSTILE: dict[str, tuple[list[Any], str]] = {
    "no file": ([ring(id=2)], "no file"),
    "twice": ([ring(), ring()], "twice"),
    "no entries": ([ring(sq_entries=0)], "0 and 16 entries"),
    "odd entries": ([ring(cq_entries=12)], "8 and 12 entries"),
    "many entries": ([ring(sq_entries=1 << 16)], "entries"),
    "flags": ([ring(flags=os.O_CREAT)], "open flags"),
    "few fields": ([ring(offsets=OFFSETS[:13])], "nowhere"),
    "a field outside": ([ring(offsets=(*OFFSETS[:13], PAGE))], "nowhere"),
    "a crooked field": ([ring(offsets=(2, *OFFSETS[1:]))], "nowhere"),
    "short memory": ([ring(rings=b"")], "another size"),
    "more submissions": ([ring(sqes=bytes(2 * PAGE))], "another size"),
    "a busy one": ([ring(rings=rings(cq_tail=NR - 1))], "not idle"),
    "another count": ([ring(submitted=NR + 1)], "not idle"),
    "a huge count": ([ring(submitted=1 << 21, rings=rings(*[1 << 21] * 4))], "not idle"),
    "many completions": ([ring(rings=rings(cq_head=NR - 17 + (1 << 32)))], "not idle"),
}


@pytest.mark.parametrize(("found", "text"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_rings(found: list[Any], text: str, tmp_path: Path) -> None:
    write(tmp_path, *found)
    with ImageSet(tmp_path) as saved, pytest.raises(ImageError, match=text):
        FilesRestore(saved, RestoreFileOptions(), {7: 1})


def test_a_file_of_a_plugin(tmp_path: Path) -> None:
    write(tmp_path)
    with ImageSet(tmp_path) as saved, pytest.raises(RestoreError, match="plugin"):
        FilesRestore(saved, RestoreFileOptions(), {7: 1})


def test_a_ring_goes_on_where_it_was(tmp_path: Path) -> None:
    layout = uringring.layout_here(8, 16)
    places = {"offsets": layout.offsets, "rings": bytes(layout.rings_size)}
    at = (layout.offsets[0], layout.offsets[1], layout.offsets[7], layout.offsets[8])
    memory = bytearray(places["rings"])
    for place in at:
        struct.pack_into("=I", memory, place, NR)
    write(tmp_path, ring(offsets=layout.offsets, rings=bytes(memory)))
    with (
        ImageSet(tmp_path) as saved,
        FilesRestore(saved, RestoreFileOptions(), {7: 1}) as files,
    ):
        files.open_all()
        files.open_late()
        with uringring.region(files.lfd(1), layout.rings_size, uringring.SQ_RING) as here:
            assert uringring.counters(here, layout) == (NR, NR, NR, NR)
            array = here[layout.array_at : layout.array_at + layout.array_size]
            assert struct.unpack("=8I", array) == tuple(range(8))


def test_a_ring_at_work_tells_nothing_and_is_busy_where_it_stands() -> None:
    """The kernel leaves its lines out while somebody has its lock (io_uring/fdinfo.c)."""
    view: Any = SimpleNamespace()
    at_work: Any = SimpleNamespace(pid=1, fd=3, info=b"")
    dump = UringDump(view)
    assert dump.obstacle(at_work) is None
    dump.hold(at_work, 7)
    (refusal,) = dump.settle()
    assert "work under way" in refusal.why
