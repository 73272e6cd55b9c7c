"""What one dump works with: handed from step to step, so that none keeps anything of its own."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from ckpt.dump.shared import SharedMemory
from ckpt.dump.stats import DumpStats
from ckpt.ns.sysv_dump import ObjectsDump
from ckpt.ns.sysv_shm import SegmentsDump
from ckpt.pstree.sharing import ALONE
from ckpt.record import field, record
from ckpt.task.slept import NOT_SEEN, Slept

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckpt.dump.engine import LiveEngine
    from ckpt.dump.facts import Known
    from ckpt.dump.increment import Increment
    from ckpt.dump.options import DumpOptions
    from ckpt.dump.pages import Pages
    from ckpt.dump.snapshot import Snapshot
    from ckpt.files.dump import FilesDump
    from ckpt.images.writer import ImageSetWriter
    from ckpt.ns.cgroup_dump import GroupsDump
    from ckpt.pstree.sharing import Sharing
    from ckpt.report import Report


@record
class Frozen:
    """What the frozen window gave. `zombies`: stat and status by pid."""

    snapshots: list[Snapshot] = field(default_factory=list)
    zombies: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    sharing: Sharing = ALONE
    segments: SegmentsDump = field(default_factory=SegmentsDump)
    objects: ObjectsDump = field(default_factory=ObjectsDump)
    monotonic_ns: int = 0
    boottime_ns: int = 0


@record
class Work:
    """`increment` is None where nothing is tracked, nor shall be; `tracked` are the tasks whose
    writes are. `known`: what the frozen window may assume of tasks. `run_id` is the new set's
    identity; `uptime_us` is 0 where nothing is tracked. `engine`: of a live dump. `checked`:
    what was assumed of mappings holds. `slept`: what sleepers there were before the freeze."""

    options: DumpOptions
    report: Report
    files: FilesDump
    groups: GroupsDump
    writer: ImageSetWriter
    pages: Pages
    increment: Increment | None
    tracked: frozenset[int]
    known: Mapping[int, Known]
    run_id: str
    uptime_us: int
    engine: LiveEngine | None = None
    checked: bool = False
    shared: SharedMemory = field(default_factory=SharedMemory)
    stats: DumpStats = field(default_factory=DumpStats)
    frozen: Frozen = field(default_factory=Frozen)
    slept: Slept = NOT_SEEN

    @property
    def goes_on(self) -> bool:
        """Whether writes are tracked after this dump."""
        return self.options.track_mem and self.options.survives


def uptime_us() -> int:
    """What /proc/uptime would say, in microseconds: `dump_uptime` of the inventory."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


def new_run_id() -> str:
    """A random UUID, of version 4 of RFC 9562. The module `uuid` takes 8 ms to import."""
    raw = bytearray(os.urandom(16))
    raw[6], raw[8] = raw[6] & 0x0F | 0x40, raw[8] & 0x3F | 0x80
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
