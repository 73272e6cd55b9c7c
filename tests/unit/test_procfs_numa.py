"""Policies of memory, as numa_maps shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from ckpt.procfs.numa import has_nodes, parse_policies
from ckpt.procfs.parse import ProcfsError

SHOWN = b"""\
55d0c0000000 default file=/bin/a\\040b mapped=2 mapmax=3 N0=2 kernelpagesize_kB=4
7f0000000000 interleave:0-1 anon=4 dirty=4 N0=2 N1=2 kernelpagesize_kB=4
7f0000010000 bind=static:1
7f0000020000 interleave:0-1 heap
7ffff0000000 default stack anon=3 dirty=3 N0=3 kernelpagesize_kB=4
"""


def test_policies() -> None:
    assert parse_policies(SHOWN) == {"interleave:0-1": 2, "bind=static:1": 1}
    assert parse_policies(b"") == {}


def test_of_this_process() -> None:
    path = Path("/proc/self/numa_maps")
    if not path.exists():
        pytest.skip("this kernel knows no NUMA")
    assert parse_policies(path.read_bytes()) == {}


def test_nonsense() -> None:
    with pytest.raises(ProcfsError):
        parse_policies(b"7f0000000000\n")


def test_nodes() -> None:
    assert [has_nodes(raw) for raw in (b"0\n", b"0-1\n", b"0,2\n", b"")] == [
        False,
        True,
        True,
        False,
    ]
