"""Live dumps: which engine, and what comes after one that has failed.

`ckpt dump --live` and whatever else makes live dumps come through here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ckpt.dump.increment import end
from ckpt.dump.run import dump
from ckpt.errors import NotOneInstant
from ckpt.live.choose import LONG_MS, pause_ms, pick, wp_can
from ckpt.live.fork import Fork
from ckpt.live.wp import WriteProtect
from ckpt.mem.tracking.client import Keeper
from ckpt.mem.tracking.engine import Mode
from ckpt.mem.tracking.where import is_tracked
from ckpt.procfs.tree import look, tree
from ckpt.record import replace

if TYPE_CHECKING:
    from ckpt.dump.engine import LiveEngine
    from ckpt.dump.options import DumpOptions
    from ckpt.dump.stats import DumpStats
    from ckpt.report import Report

ATTEMPTS = 3


def dump_live(options: DumpOptions, report: Report, *, may_begin_anew: bool = False) -> DumpStats:
    """Dump while the tree runs on. A snapshot that was lost, because memory was given back before
    it was copied, is tried again: each attempt is of another instant, from the second on such calls
    are caught, and with `auto` the last one is made by a fork, which loses nothing.
    `may_begin_anew`: with `auto`, a tree that has become too large for forks is tracked from now on
    as write protection needs it, and this set is a whole one.

    Raises as ckpt.dump.run.dump does, and NotOneInstant after the last attempt.
    """
    pids = _pids(options.tree)
    tracked = _tracking(options)
    if may_begin_anew and _outgrown(options, pids, tracked):
        report.info("the chain begins anew: forks of this tree would take too long")
        end(options.tree)
        tracked = None
    mode = pick(options.live, pids, tracked=tracked)
    report.info(f"live: {mode}")
    if mode == "wp" and not options.track_mode:
        # A tracker that begins here can be shared with write protection.
        options = replace(options, track_mode=Mode.SYNC)
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


def _outgrown(options: DumpOptions, pids: list[int], tracked: Mode | None) -> bool:
    if options.live != "auto" or options.track_mode or tracked is not Mode.ASYNC:
        return False
    return wp_can(pids) and pause_ms(pids) > LONG_MS


def _tracking(options: DumpOptions) -> Mode | None:
    """The mode of the tree's keeper, or the one that was asked for; None: any."""
    task = look(options.tree)
    if task is not None and is_tracked(task.pid, task.starttime):
        keeper = Keeper.find(options.tree)
        if keeper is not None:
            with keeper:
                return keeper.mode
    return Mode(options.track_mode) if options.track_mode else None
