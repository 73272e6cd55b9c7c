"""What engines tell: of the pages of a task that stands, and of what a live snapshot has cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ckpt.record import record

if TYPE_CHECKING:
    from ckpt.mem.extents import Extents


class Found(NamedTuple):
    """`populated`: the private pages with content of their own. Nowhere but in `elsewhere` there
    are guard pages."""

    populated: Extents
    elsewhere: Extents


@record(frozen=True)
class Figures:
    """`nr_rounds`: how many times memory was armed while the tree ran. `faults`: of the tree on
    memory that was not copied yet, and `fault_pages` what was copied for them; `saved_pages` were
    about to be given back. `peak_bytes`: most memory that the snapshot took beside the tree's, of
    ckpt itself or of copies that the tree had to make. `shared_pages`: of shared memory, that were
    not copied while the tree stood. `table_bytes`: page tables that the tree may
    have got for marks on shared memory that it had not touched; they stay with it."""

    engine: str
    nr_rounds: int
    nr_faults: int
    fault_pages: int
    swept_pages: int
    saved_pages: int
    peak_bytes: int
    shared_pages: int
    table_bytes: int
    sweep_us: int
