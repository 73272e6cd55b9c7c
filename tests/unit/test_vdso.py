"""What is read from a vdso, and what of another kernel's this one's can stand in for."""

from __future__ import annotations

import os
import struct
from base64 import b64encode
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt.errors import PeerError, RestoreError
from ckpt.infect.passing import in_vdso
from ckpt.mem.vdso import Vdso, this_kernel
from ckpt.migrate import hello, wire
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from ckpt.record import replace
from ckpt.restore.vdso import StandIn, entries_of
from ckpt.tracee.stopped import SeizedTask, Stopped
from ckpt.units import PAGE, Range
from tests.support.foreignvdso import other_layout

if TYPE_CHECKING:
    from pathlib import Path


def own() -> Vdso:
    vdso = this_kernel().vdso
    assert vdso is not None
    return vdso


def test_this_kernels() -> None:
    vdso = own()
    assert 0 < vdso.used <= len(vdso.raw)
    names = {name for function in vdso.functions for name in function.names}
    assert {"clock_gettime", "gettimeofday", "time", "getcpu"} <= names
    ends = [function.offset + function.size for function in vdso.functions]
    starts = [function.offset for function in vdso.functions]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))
    assert ends[-1] <= vdso.used


def test_what_follows_its_end_is_nobodys() -> None:
    vdso = own()
    assert vdso.same(Vdso(vdso.raw[: vdso.used] + b"x" * PAGE))
    assert not vdso.same(Vdso(b"x" + vdso.raw[1:]))


def test_each_function_finds_its_namesake(tmp_path: Path) -> None:
    there, here = Vdso(other_layout(tmp_path)), own()
    by_name = {name: f.offset for f in here.functions for name in f.names}
    entries = entries_of(there, here)
    assert len(entries) == 5
    for offset, target, name in entries:
        assert there.raw[offset : offset + 2] == b"\x0f\x0b"
        assert target == by_name[name]


def test_what_is_not_here_makes_the_call(tmp_path: Path) -> None:
    names = ("gettimeofday", "getrandom", "clock_getres")
    there = Vdso(other_layout(tmp_path, names))
    here = Vdso(other_layout(tmp_path, ("gettimeofday",), 64))
    entries = entries_of(there, here)
    assert [(target is None, name) for _, target, name in entries] == [
        (False, "gettimeofday"),
        (True, "clock_getres"),
    ]
    whole = StandIn(Range(PAGE, 2 * PAGE), entries)
    (first, jump), (second, call) = whole.patches(7 * PAGE)
    assert (
        jump == b"\x48\xb8" + (7 * PAGE + (entries[0][1] or 0)).to_bytes(8, "little") + b"\xff\xe0"
    )
    assert call == b"\xb8\xe5\0\0\0\x0f\x05\xc3"
    assert (first - PAGE, second - PAGE) == (entries[0][0], entries[1][0])
    assert [target for _, target, _ in entries_of(there, None)] == [None, None]


def test_what_nothing_stands_in_for(tmp_path: Path) -> None:
    with pytest.raises(RestoreError, match="no tell_fortune"):
        entries_of(Vdso(other_layout(tmp_path, ("tell_fortune",))), own())
    with pytest.raises(RestoreError, match="8 bytes has no room"):
        entries_of(Vdso(other_layout(tmp_path, size=8)), own())
    for raw in (b"", b"\x7fELF", bytes(PAGE)):
        with pytest.raises(RestoreError, match="another kernel"):
            entries_of(Vdso(raw), own())


@given(st.lists(st.tuples(st.integers(0, 0x600), st.integers(0, 255)), max_size=20))
def test_a_damaged_one_is_read_or_not(changes: list[tuple[int, int]]) -> None:
    raw = bytearray(own().raw)
    for at, byte in changes:
        raw[at] = byte
    try:
        functions = Vdso(bytes(raw)).functions
    except ValueError:
        return
    assert all(0 < f.offset < f.offset + f.size <= len(raw) for f in functions)


def told(vdso: bytes) -> wire.Frame:
    fields = {"version": wire.VERSION, "vdso": b64encode(vdso).decode()}
    return wire.Frame(hello.MIGRATE, fields)


def test_the_destination_looks_at_it_first(tmp_path: Path) -> None:
    hello.check_hello(told(own().raw), frozenset())
    hello.check_hello(told(other_layout(tmp_path)), frozenset())
    for raw in (b"", b"nothing", other_layout(tmp_path, ("tell_fortune",))):
        with pytest.raises(RestoreError, match="vdso"):
            hello.check_hello(told(raw), frozenset())
    with pytest.raises(PeerError, match="vdso"):
        hello.check_hello(told(bytes(1 << 20)), frozenset())
    with pytest.raises(PeerError, match="vdso"):
        nothing = {"version": wire.VERSION, "vdso": "?!"}
        hello.check_hello(wire.Frame(hello.MIGRATE, nothing), frozenset())


def standing(*threads: tuple[int, int]) -> SeizedTask:
    """This process with threads in such calls, at such addresses."""
    stopped = [
        Stopped(1000 + n, bytes(15 * 8) + struct.pack("<qQ", *where), b"", 0, None, (), 0)
        for n, where in enumerate(threads)
    ]
    leader = replace(stopped[0], tid=os.getpid())
    return SeizedTask(os.getpid(), -1, 1, [leader, *stopped[1:]], (), False, 0, False)


def test_who_stands_in_it() -> None:
    with ProcDir(os.getpid()) as proc:
        (mapped,) = (m for m in parse_maps(proc.read("maps")) if m.path == "[vdso]")
    inside, behind = mapped.start + 0x900, mapped.start + own().used
    task = standing((-1, 0), (-1, inside), (228, inside), (0, inside), (-1, behind), (-1, 1 << 20))
    assert in_vdso(task) == [1001, 1002]
    assert in_vdso(replace(task, stopped=True)) == []
    assert in_vdso(standing((0, inside))) == []
