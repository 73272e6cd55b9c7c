"""Which engine: what this kernel can, by trial, or what was asked for."""

from __future__ import annotations

from ckpt.errors import KernelError
from ckpt.kerndat import tracking
from ckpt.mem.tracking.asynchronous import Asynchronous
from ckpt.mem.tracking.engine import Engine, Mode
from ckpt.mem.tracking.synchronous import Synchronous

_NEEDED = {
    Mode.ASYNC: (tracking.pagemap_scan, tracking.uffd_wp_async),
    Mode.SYNC: (tracking.uffd_wp,),
}


def choose(forced: Mode | None = None) -> Mode:
    """The engine to use; KernelError where `forced`, or any, is not to be had."""
    why = {}
    for mode in (Mode.ASYNC, Mode.SYNC) if forced is None else (forced,):
        why[mode] = _lacks(mode)
        if not why[mode]:
            return mode
    raise KernelError(
        "writes can't be tracked",
        why="; ".join(f"{mode}: {reason}" for mode, reason in why.items()),
        hint="dump without --track-mem" if forced is None else "leave out --track-mode",
    )


def make_engine(mode: Mode, uffd: int, pagemap: int) -> Engine:
    """The engine over a userfaultfd of open_uffd() in this mode and /proc/PID/pagemap of the same
    mm, which it owns from now on."""
    if mode is Mode.ASYNC:
        return Asynchronous(uffd, pagemap)
    return Synchronous(uffd, pagemap, words=not tracking.pagemap_scan.run().supported)


def _lacks(mode: Mode) -> str:
    """Why this kernel can't, "" if it can."""
    for one in _NEEDED[mode]:
        found = one.run()
        if not found.supported:
            return f"{one.name}: {found.detail or 'missing'}"
    return ""
