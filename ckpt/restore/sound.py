"""What messages of a set must be, for the stages that rely on it. Pure."""

from __future__ import annotations

from typing import Any

from ckpt.errors import ImageError
from ckpt.task import sched, signals


def wrong(name: str, why: str) -> ImageError:
    """Of the image `name`: it can be read, but not be true."""
    return ImageError("makes no sense", resource=f"{name}.img", why=why)


def check_thread(name: str, core: Any) -> None:
    """The core image `name` is of a thread that can be restored. Raises ImageError."""
    if not core.HasField("thread_info") or not core.HasField("thread_core"):
        raise wrong(name, "it holds no thread of x86-64")
    entry = core.thread_core
    if signals.damaged(entry.signals_p):
        raise wrong(name, "its signals are damaged")
    if sched.damaged(entry):
        raise wrong(name, "its scheduling is damaged")
    if core.thread_info.gpregs.mode != 1 or core.thread_info.tls:
        raise ImageError("can't be restored yet", resource=f"{name}.img", why="32-bit code")
    if not entry.HasField("creds") or len(entry.creds.groups) > 65536:
        raise wrong(name, "it holds no credentials")


def clocks_of(entry: Any) -> tuple[int, int] | None:
    """Nanoseconds of CLOCK_MONOTONIC and CLOCK_BOOTTIME at the dump. Raises ImageError."""
    if entry is None:
        return None
    for clock in (entry.monotonic, entry.boottime):
        if clock.tv_nsec >= 10**9 or clock.tv_sec >= 1 << 34:
            raise wrong("timens-0", "not a time")
    return (
        entry.monotonic.tv_sec * 10**9 + entry.monotonic.tv_nsec,
        entry.boottime.tv_sec * 10**9 + entry.boottime.tv_nsec,
    )
