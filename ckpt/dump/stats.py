"""The figures of a dump, as `stats-dump` holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.images.pagemap import PE_PARENT, PE_PRESENT
from ckpt.images.pb.stats_pb2 import stats_entry
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.dump.engine import LiveFigures
    from ckpt.images.pagemap import Run

_UINT32_MAX = (1 << 32) - 1


@record
class DumpStats:
    """Times in microseconds. Frozen: from the first interrupt until the tree could go on (for a
    tree that is killed: until all had been taken from it), without what live-instant scripts took,
    which is `script_us`. `instant_ms`: which instant the images hold, by the wall clock, since
    1970; 0 for a pre-dump, which holds none. Of a live dump: `frozen_pages` were copied while the
    tree stood, `live` are the figures of its engine."""

    freezing_us: int = 0
    frozen_us: int = 0
    memdump_us: int = 0
    memwrite_us: int = 0
    pages_scanned: int = 0
    pages_written: int = 0
    pages_skipped_parent: int = 0
    shpages_written: int = 0
    pages_lazy: int = 0
    instant_ms: int = 0
    frozen_pages: int = 0
    script_us: int = 0
    live: LiveFigures | None = None

    def count(self, runs: Iterable[Run]) -> None:
        """Add the pages of one pagemap."""
        for run in runs:
            self.pages_scanned += run.nr_pages
            if run.flags & PE_PRESENT:
                self.pages_written += run.nr_pages
            elif run.flags & PE_PARENT:
                self.pages_skipped_parent += run.nr_pages
            else:
                self.pages_lazy += run.nr_pages

    def message(self) -> stats_entry:
        entry = stats_entry()
        dump = entry.dump
        dump.freezing_time = min(self.freezing_us, _UINT32_MAX)
        dump.frozen_time = min(self.frozen_us, _UINT32_MAX)
        dump.memdump_time = min(self.memdump_us, _UINT32_MAX)
        dump.memwrite_time = min(self.memwrite_us, _UINT32_MAX)
        dump.pages_scanned, dump.pages_written = self.pages_scanned, self.pages_written
        dump.pages_skipped_parent = self.pages_skipped_parent
        dump.pages_lazy = self.pages_lazy
        dump.shpages_scanned = dump.shpages_written = self.shpages_written
        return entry
