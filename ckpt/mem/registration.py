"""Registering mappings for write protection, and taking that back: no mapping of a target that runs
is in two parts meanwhile (ckpt.mem.room)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib
from ckpt.mem.extents import Extents

if TYPE_CHECKING:
    from ckpt.mem.room import Listed


def register(uffd: int, mappings: Listed) -> Extents:
    """Those of the ranges that can't be had."""
    ranges, room = mappings.ranges, mappings.room
    out = ffi.new("struct ckpt_extent **")
    nr = lib.ckpt_register_wp(uffd, ranges.array, ranges.nr, room.array, room.nr, out)
    return Extents.filled(check(nr, "userfaultfd"), out)


def unregister(uffd: int, pagemap: int, mappings: Listed) -> None:
    """Some may not be registered, and `pagemap` may be -1. What this leaves goes with `uffd`."""
    ranges, room = mappings.ranges, mappings.room
    lib.ckpt_unregister_wp(uffd, pagemap, ranges.array, ranges.nr, room.array, room.nr)
