"""Live dumps: which engine, and what comes after one that has failed.

`ckpt dump --live` and whatever else makes live dumps come through here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.dump.run import dump
from ckpt.errors import NotOneInstant, UsageError
from ckpt.live.wp import WriteProtect

if TYPE_CHECKING:
    from ckpt.dump.options import DumpOptions
    from ckpt.dump.stats import DumpStats
    from ckpt.report import Report

ATTEMPTS = 3


def dump_live(options: DumpOptions, report: Report) -> DumpStats:
    """Dump while the tree runs on. A snapshot that was lost, because memory was given back before
    it was copied, is tried again: each attempt is of another instant.

    Raises as ckpt.dump.run.dump does, and NotOneInstant after the last attempt.
    """
    if options.live == "fork":
        raise UsageError("is not there yet", resource="--live=fork", hint="--live=wp")

    def new_engine() -> WriteProtect:
        return WriteProtect(room=options.live_memory, percent=options.max_slowdown)

    for _ in range(ATTEMPTS - 1):
        try:
            return dump(options, report, new_engine)
        except NotOneInstant as lost:
            report.warn(f"once more: {lost}")
    return dump(options, report, new_engine)
