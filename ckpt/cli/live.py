"""Live dumps: which engine, and what comes after one that has failed.

`ckpt dump --live` and whatever else makes live dumps come through here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ckpt.dump.run import dump
from ckpt.errors import NotOneInstant
from ckpt.live.choose import pick
from ckpt.live.fork import Fork
from ckpt.live.wp import WriteProtect
from ckpt.mem.tracking.where import is_tracked
from ckpt.procfs.tree import look, tree

if TYPE_CHECKING:
    from ckpt.dump.engine import LiveEngine
    from ckpt.dump.options import DumpOptions
    from ckpt.dump.stats import DumpStats
    from ckpt.report import Report

ATTEMPTS = 3


def dump_live(options: DumpOptions, report: Report) -> DumpStats:
    """Dump while the tree runs on. A snapshot that was lost, because memory was given back before
    it was copied, is tried again: each attempt is of another instant, from the second on such calls
    are caught, and with `auto` the last one is made by a fork, which loses nothing.

    Raises as ckpt.dump.run.dump does, and NotOneInstant after the last attempt.
    """
    mode = pick(
        options.live, _pids(options.tree), tracked=options.track_mem or _tracked(options.tree)
    )
    report.info(f"live: {mode}")
    last = "fork" if options.live == "auto" else mode
    catch = options.live_catch or None
    for attempt in range(1, ATTEMPTS):
        try:
            return dump(options, report, partial(_engine, mode, options, catch))
        except NotOneInstant as lost:
            report.warn(f"once more: {lost}")
            mode = last if attempt == ATTEMPTS - 1 else mode
            catch = True
    return dump(options, report, partial(_engine, mode, options, catch))


def _engine(mode: str, options: DumpOptions, catch: bool | None) -> LiveEngine:
    if mode == "fork":
        return Fork()
    return WriteProtect(room=options.live_memory, percent=options.max_slowdown, calls=catch)


def _pids(root: int) -> list[int]:
    return [task.pid for task in tree(root)]


def _tracked(root: int) -> bool:
    task = look(root)
    return task is not None and is_tracked(task.pid, task.starttime)
