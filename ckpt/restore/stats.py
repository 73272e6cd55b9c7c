"""The figures of a restore, as `stats-restore` holds them."""

from __future__ import annotations

from ckpt.images.pb.stats_pb2 import stats_entry
from ckpt.record import record

_UINT32_MAX = (1 << 32) - 1


@record
class RestoreStats:
    """Times in microseconds; pages compared with a creator's, and of those shared with it."""

    forking_us: int = 0
    restore_us: int = 0
    pages_compared: int = 0
    pages_skipped_cow: int = 0
    pages_restored: int = 0

    def message(self) -> stats_entry:
        entry = stats_entry()
        entry.restore.pages_compared = self.pages_compared
        entry.restore.pages_skipped_cow = self.pages_skipped_cow
        entry.restore.forking_time = min(self.forking_us, _UINT32_MAX)
        entry.restore.restore_time = min(self.restore_us, _UINT32_MAX)
        entry.restore.pages_restored = self.pages_restored
        return entry
