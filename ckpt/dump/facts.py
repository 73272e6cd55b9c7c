"""What /proc says of one task, and what of that stands in the way of a dump.

`look` reads only, without side effects on the task, and works on a running and on a stopped one:
the preflight asks a running tree, so that a refusal touches nothing; the dump asks again while all
stands still, and that answer binds. What it reads stays bytes until it is needed, because the
reading happens while the target is frozen.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from ckpt.errors import KernelError, Refusal, TargetError
from ckpt.mem import vma
from ckpt.procfs import scalars
from ckpt.procfs.limits import parse_limits
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.nslink import KINDS, Namespaces, parse_ns_link
from ckpt.procfs.smaps import Smap, parse_smaps
from ckpt.procfs.stat import Stat, is_io_worker, parse_stat
from ckpt.procfs.status import Status, parse_status
from ckpt.procfs.timens import TimensOffsets, parse_timens_offsets
from ckpt.procfs.timers import PosixTimer, parse_timers
from ckpt.record import field, record
from ckpt.task import sched, seccomp, timers

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.ns.cgroup_dump import GroupsDump
    from ckpt.procfs.limits import Limit
    from ckpt.procfs.maps import Mapping
    from ckpt.procfs.reader import ProcDir

_TASK_FILES = (
    *(
        "stat",
        "status",
        "maps",
        "smaps",
        "auxv",
        "limits",
        "personality",
        "timers",
        "oom_score_adj",
    ),
    *("coredump_filter", "loginuid", "cgroup", "timens_offsets"),
)
_OPTIONAL = {"timers", "loginuid", "timens_offsets", "cgroup"}
RISK_HINT = "--risk-seccomp dumps it, if ckpt is not killed meanwhile"
_TRACKED_HINT = "ckpt untrack PID, if ckpt tracks a tree that it belongs to, whose root is PID"


@record(frozen=True)
class Surroundings:
    """Namespaces, and what a security module calls the task (empty where none does)."""

    namespaces: Namespaces
    profile: bytes


@record(frozen=True)
class Known:
    """The text of maps, and the mappings with their flags as they were then."""

    maps: bytes = b""
    smaps: Sequence[Smap] = ()


NOTHING_KNOWN = Known()


@record(slots=False)
class Facts:
    """One live task. `raw`, `threads` and `cgroups`, which is by further thread, hold files as they
    were read; the properties parse. `assumed`: smaps was not read, for maps was what it was when
    this was. `stands`: it did while they were read."""

    pid: int
    raw: dict[str, bytes]
    threads: dict[int, tuple[bytes, bytes]]
    surroundings: Surroundings
    assumed: Sequence[Smap] = ()
    cgroups: dict[int, bytes] = field(default_factory=dict)
    stands: bool = False
    _statuses: dict[int, Status] = field(default_factory=dict)

    @cached_property
    def stat(self) -> Stat:
        return parse_stat(self.raw["stat"])

    @cached_property
    def status(self) -> Status:
        return parse_status(self.raw["status"])

    @cached_property
    def smaps(self) -> Sequence[Smap]:
        return self.assumed or parse_smaps(self.raw["smaps"], running=not self.stands)

    @property
    def known(self) -> Known:
        """What a later `look` can assume; nothing, if the mappings changed while they were read."""
        if parse_maps(self.raw["maps"], running=True) == [smap.mapping for smap in self.smaps]:
            return Known(self.raw["maps"], self.smaps)
        return Known()

    def flags_changed(self, now: Iterable[Smap]) -> list[Mapping]:
        """The mappings that are there still but have other flags than were assumed."""
        assumed = {smap.mapping: smap.flags & vma.FLAGS for smap in self.assumed}
        return [
            smap.mapping
            for smap in now
            if assumed.get(smap.mapping, smap.flags & vma.FLAGS) != smap.flags & vma.FLAGS
        ]

    def put_right(self, now: Sequence[Smap]) -> None:
        """The mappings as a look at the task, which still stands, has found them."""
        self.smaps = self.assumed = now

    @cached_property
    def limits(self) -> tuple[Limit, ...]:
        return parse_limits(self.raw["limits"])

    @cached_property
    def personality(self) -> int:
        return scalars.parse_personality(self.raw["personality"])

    @cached_property
    def timens(self) -> TimensOffsets:
        return parse_timens_offsets(self.raw["timens_offsets"])

    @cached_property
    def timers(self) -> list[PosixTimer]:
        return parse_timers(self.raw.get("timers", b""))

    @property
    def auxv(self) -> bytes:
        return self.raw["auxv"]

    def cgroup(self, tid: int) -> bytes:
        """/proc/PID/task/TID/cgroup; empty on a kernel without control groups."""
        return self.cgroups.get(tid) or self.raw.get("cgroup", b"")

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


def look(proc: ProcDir, known: Known = NOTHING_KNOWN, *, stands: bool = False) -> Facts:
    """Read what the directory of one live task, which runs or `stands`, says. TargetError: it has
    ended.

    Where the mappings are those of `known`, their flags are assumed: smaps walks all of the page
    tables (5 to 10 ms a GiB), maps does not. madvise(2) and mlock(2) can change flags without a
    trace in maps: whoever assumes asks `flags_changed` when the target does not wait for it.
    """
    raw: dict[str, bytes] = {}
    for name in _TASK_FILES:
        if name == "smaps" and known.maps and raw["maps"] == known.maps:
            continue
        if name == "auxv" and not raw["maps"] and parse_status(raw["status"]).kernel_thread:
            continue
        data = proc.read_if(name) if name in _OPTIONAL else proc.read(name)
        if data is not None:
            raw[name] = data
    files = {tid: found for tid in proc.tids() if (found := _thread_files(proc, tid))}
    threads = {tid: (stat, status) for tid, (stat, status, _) in files.items()}
    cgroups = {tid: cgroup for tid, (*_, cgroup) in files.items() if tid != proc.pid}
    assumed = () if "smaps" in raw else known.smaps
    return Facts(proc.pid, raw, threads, surroundings_of(proc), assumed, cgroups, stands)


def _thread_files(proc: ProcDir, tid: int) -> tuple[bytes, bytes, bytes] | None:
    """stat, status, cgroup. None where the thread has ended since it was listed, as it may before
    the freeze, and of a worker that the kernel has made for io_uring: whoever restores a ring gets
    workers of its own."""
    try:
        stat = proc.read(f"task/{tid}/stat")
        if is_io_worker(stat):
            return None
        cgroup = b"" if tid == proc.pid else proc.read_if(f"task/{tid}/cgroup") or b""
        return stat, proc.read(f"task/{tid}/status"), cgroup
    except TargetError:
        if not proc.alive():
            raise
        return None


def obstacles(
    facts: Facts,
    ours: Surroundings,
    *,
    tracked: bool = False,
    arriving: bool = False,
    risk_seccomp: bool = False,
) -> Iterator[Refusal]:
    """Everything about the task itself that a restore could not bring back yet. `tracked`: the
    writes of this task are tracked by ckpt. `arriving`: a lazy restore still brings memory.
    `risk_seccomp`: its seccomp may kill it, should we end midway."""
    pid, status = facts.pid, facts.status
    if status.kernel_thread or not facts.raw["maps"]:
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
    for timer in facts.timers:
        if why := timers.obstacle(timer):
            yield Refusal(pid, f"POSIX timer {timer.timer_id}", why)
    yield from _thread_obstacles(facts, risk_seccomp=risk_seccomp)
    for smap in facts.smaps:
        why = vma.obstacle(smap, tracked=tracked, arriving=arriving)
        if why:
            hint = _TRACKED_HINT if vma.TRACKED in smap.flags else ""
            yield Refusal(pid, f"mapping {smap.mapping}", why, hint)


def group_obstacles(facts: Facts, groups: GroupsDump) -> Iterator[Refusal]:
    """Control groups that a restore could not bring back."""
    for data in {facts.cgroup(tid) for tid in facts.threads}:
        for which, why in groups.obstacles(data):
            hint = "--manage-cgroups=ignore leaves it out, --cgroup-yard shows where it is"
            yield Refusal(facts.pid, which, why, hint)


def _is_32bit(auxv: bytes) -> bool:
    """Whether the pairs are of 4-byte words: the second word then is a value, else a high half."""
    return any(auxv[4:8])


def _thread_obstacles(facts: Facts, *, risk_seccomp: bool) -> Iterator[Refusal]:
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
        if status.seccomp == seccomp.STRICT and not risk_seccomp:
            yield Refusal(facts.pid, where, seccomp.hazard((seccomp.STRICT_MODE,)), RISK_HINT)
        if why := sched.obstacle(stat.policy):
            yield Refusal(facts.pid, where, why)
