"""Who can write to shared memory, as ckpt.live.reach finds it: this process and a child of it."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ckpt.live import reach
from ckpt.live.reach import Objects, reaching
from ckpt.live.view import is_memfd, shareable
from ckpt.procfs.maps import Mapping, parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.stat import parse_stat

SIZE = 3 * mmap.PAGESIZE
OURS = os.getpid()


def _mapped() -> list[Mapping]:
    with ProcDir(os.getpid()) as proc:
        return [m for m in parse_maps(proc.read("maps")) if shareable(m)]


@contextmanager
def _child() -> Iterator[int]:
    """It has what this process has, until the scope is left."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    os.close(reader)
    try:
        yield pid
    finally:
        os.close(writer)
        os.waitpid(pid, 0)


def test_whoever_maps_it_is_found() -> None:
    before = {m.ino for m in _mapped()}
    with mmap.mmap(-1, SIZE):
        (ino,) = {m.ino for m in _mapped()} - before
        objects = Objects({ino: 0}, (), 0)
        with _child() as child:
            assert {OURS, child} <= reaching(objects, ())[ino]
            assert child not in reaching(objects, {child})[ino]


def test_whoever_has_it_open_is_found() -> None:
    lfd = os.memfd_create("reach")
    os.truncate(lfd, SIZE)
    ino = os.fstat(lfd).st_ino
    born = reach.ticks(lfd)
    with mmap.mmap(lfd, SIZE) as mapped, _child() as child:
        (mapping,) = (m for m in _mapped() if m.ino == ino)
        assert is_memfd(mapping)
        # Our own descriptors do not count: we have opened all objects ourselves.
        os.close(lfd)
        assert reaching(Objects({ino: born}, {ino}, 0), {OURS, child})[ino] >= {child}
        mapped.flush()


@pytest.mark.parametrize(
    ("root", "born", "harmless"), [(1, 2, True), (1, 1, True), (0, 1, False), (2, 1, False)]
)
def test_age_of_who_can_not_be_seen(root: int, born: int, *, harmless: bool) -> None:
    """Ticks after this process was started."""
    with ProcDir(OURS) as proc:
        started = parse_stat(proc.read("stat")).starttime
        objects = Objects({7: started + born}, (), started + root)
        assert (not list(reach._maybe(proc, objects))) == harmless


def test_objects_are_dated() -> None:
    with ProcDir(OURS) as proc:
        started = parse_stat(proc.read("stat")).starttime
    lfd = os.memfd_create("reach")
    try:
        assert started <= reach.ticks(lfd)
    finally:
        os.close(lfd)
