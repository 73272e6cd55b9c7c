"""What /proc says of one task, and what of that stands in the way of a dump.

`look` reads only, without side effects on the task, and works on a running and on a stopped one:
the preflight asks a running tree, so that a refusal touches nothing; the dump asks again while all
stands still, and that answer binds. What it reads stays bytes until it is needed, because the
reading happens while the target is frozen.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from ckpt._native import lib
from ckpt.errors import KernelError, Refusal, TargetError
from ckpt.infect.batch import number
from ckpt.mem import vma
from ckpt.procfs import scalars
from ckpt.procfs.limits import parse_limits
from ckpt.procfs.nslink import KINDS, Namespaces, parse_ns_link
from ckpt.procfs.smaps import Smap, parse_smaps
from ckpt.procfs.stat import Stat, parse_stat
from ckpt.procfs.status import Status, parse_status
from ckpt.procfs.timens import TimensOffsets, parse_timens_offsets
from ckpt.procfs.timers import parse_timers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.procfs.limits import Limit
    from ckpt.procfs.reader import ProcDir

_SCHED_OTHER = 0
_IOPRIO_WHO_PROCESS, _IOPRIO_CLASS_SHIFT = 1, 13
_TASK_FILES = (
    *("stat", "status", "smaps", "auxv", "limits", "personality", "timers", "oom_score_adj"),
    *("coredump_filter", "loginuid", "cgroup", "timens_offsets"),
)
_OPTIONAL = {"timers", "loginuid", "timens_offsets", "cgroup"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Namespaces, and what a security module calls the task (empty where none does)."""

    namespaces: Namespaces
    profile: bytes


@dataclass
class Facts:
    """One live task. `raw` and `threads` hold files as they were read; the properties parse."""

    pid: int
    raw: dict[str, bytes]
    threads: dict[int, tuple[bytes, bytes]]
    surroundings: Surroundings
    _statuses: dict[int, Status] = field(default_factory=dict)

    @cached_property
    def stat(self) -> Stat:
        return parse_stat(self.raw["stat"])

    @cached_property
    def status(self) -> Status:
        return parse_status(self.raw["status"])

    @cached_property
    def smaps(self) -> list[Smap]:
        return parse_smaps(self.raw["smaps"])

    @cached_property
    def limits(self) -> tuple[Limit, ...]:
        return parse_limits(self.raw["limits"])

    @cached_property
    def personality(self) -> int:
        return scalars.parse_personality(self.raw["personality"])

    @cached_property
    def timens(self) -> TimensOffsets:
        return parse_timens_offsets(self.raw["timens_offsets"])

    @property
    def auxv(self) -> bytes:
        return self.raw["auxv"]

    def thread_status(self, tid: int) -> Status:
        if tid not in self._statuses:
            self._statuses[tid] = parse_status(self.threads[tid][1])
        return self._statuses[tid]

    def thread_stat(self, tid: int) -> Stat:
        return parse_stat(self.threads[tid][0])


def surroundings_of(proc: ProcDir) -> Surroundings:
    """The surroundings of a live task."""
    found = {}
    for kind in KINDS:
        try:
            found[kind] = parse_ns_link(proc.readlink(f"ns/{kind}"))[1]
        except TargetError:
            if not proc.alive():
                raise
    try:
        profile = (proc.read_if("attr/current") or b"").strip(b"\0\n")
    except KernelError:
        profile = b""  # EINVAL: no security module shows anything here
    return Surroundings(Namespaces(found), profile)


def look(proc: ProcDir, *, memory: bool = True) -> Facts:
    """Read what one live task's directory says. TargetError: it has ended."""
    raw = {}
    for name in _TASK_FILES:
        if name == "smaps" and not memory:
            continue
        data = proc.read_if(name) if name in _OPTIONAL else proc.read(name)
        if data is not None:
            raw[name] = data
    threads = {tid: files for tid in proc.tids() if (files := _thread_files(proc, tid))}
    return Facts(proc.pid, raw, threads, surroundings_of(proc))


def _thread_files(proc: ProcDir, tid: int) -> tuple[bytes, bytes] | None:
    """None where the thread has ended since it was listed, as it may before the freeze."""
    try:
        return proc.read(f"task/{tid}/stat"), proc.read(f"task/{tid}/status")
    except TargetError:
        if not proc.alive():
            raise
        return None


def obstacles(facts: Facts, ours: Surroundings) -> Iterator[Refusal]:
    """Everything about the task itself that a restore could not bring back yet."""
    pid, status = facts.pid, facts.status
    if status.kernel_thread or not facts.raw["smaps"]:
        yield Refusal(pid, "the task", "it has no memory of its own (a kernel thread?)")
        return
    if _is_32bit(facts.auxv):
        yield Refusal(pid, "the task", "it runs 32-bit code; not restored yet")
        return
    for kind in facts.surroundings.namespaces.differ(ours.namespaces):
        if kind not in ("time", "pid_for_children", "time_for_children"):
            yield Refusal(pid, f"{kind} namespace", "it is not ckpt's own; not restored yet")
    if facts.surroundings.profile != ours.profile:
        profile = facts.surroundings.profile.decode(errors="replace")
        yield Refusal(pid, f"security profile {profile}", "it is not ckpt's own; not restored yet")
    if facts.raw.get("timers", b"").strip():
        ids = ", ".join(str(t.timer_id) for t in parse_timers(facts.raw["timers"]))
        yield Refusal(pid, f"POSIX timer {ids}", "timers are not restored yet")
    yield from _thread_obstacles(facts)
    for smap in facts.smaps:
        why = vma.obstacle(smap)
        if why:
            yield Refusal(pid, f"mapping {smap.mapping}", why)


def _is_32bit(auxv: bytes) -> bool:
    """Whether the pairs are of 4-byte words: the second word then is a value, else a high half."""
    return any(auxv[4:8])


def _io_class(tid: int) -> int:
    """The class of ioprio_get(2), 0 where the thread never asked for one."""
    value = lib.ckpt_call(number("ioprio_get"), _IOPRIO_WHO_PROCESS, tid, 0, 0, 0, 0)
    return int(value) >> _IOPRIO_CLASS_SHIFT if value > 0 else 0


def _resets_on_fork(tid: int) -> bool:
    try:
        return bool(os.sched_getscheduler(tid) & os.SCHED_RESET_ON_FORK)
    except ProcessLookupError:
        return False


def _thread_obstacles(facts: Facts) -> Iterator[Refusal]:
    for tid in facts.threads:
        status, stat = facts.thread_status(tid), facts.thread_stat(tid)
        where = "the task" if tid == facts.pid else f"thread {tid}"
        if status.tracer_pid and status.tracer_pid != os.getpid():
            yield Refusal(
                facts.pid,
                where,
                f"it is traced by pid {status.tracer_pid}",
                "detach that debugger first",
            )
        if status.seccomp:
            yield Refusal(facts.pid, where, "it is under seccomp, which is not restored yet")
        if stat.policy != _SCHED_OTHER:
            yield Refusal(facts.pid, where, f"scheduling policy {stat.policy} is not restored yet")
        elif _resets_on_fork(tid):
            why = "scheduling that is reset on fork is not restored yet"
            yield Refusal(facts.pid, where, why)
        if _io_class(tid):
            yield Refusal(facts.pid, where, "its I/O priority is not restored yet")
