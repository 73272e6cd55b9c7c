"""One task as it stood: all that was taken from it while it was frozen, nothing encoded yet."""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib
from ckpt.dump.facts import RISK_HINT
from ckpt.dump.shared import object_id
from ckpt.dump.sharing import apart
from ckpt.errors import Refusal
from ckpt.files.mapped import PATH_LINKS
from ckpt.infect.batch import number
from ckpt.mem import aio, vma
from ckpt.mem.extents import Extents
from ckpt.mem.missing.split import may_be_late
from ckpt.mem.transfer import NO_CONTENT, Content, content
from ckpt.procfs.reader import read_at
from ckpt.pstree.sharing import FS
from ckpt.record import field, record, replace
from ckpt.task import sched, seccomp, sleeping
from ckpt.tracee import filters, ops, vm

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.dump.facts import Facts
    from ckpt.dump.inside import Inside, TimersLeft
    from ckpt.files.dump import FilesDump
    from ckpt.files.mapped import MappedFile
    from ckpt.mem.policy import Policy
    from ckpt.mem.vma import Vma
    from ckpt.procfs.maps import Mapping
    from ckpt.procfs.reader import ProcDir
    from ckpt.task.sched import Sched
    from ckpt.task.seccomp import Chain
    from ckpt.task.sleeping import Asleep
    from ckpt.task.slept import Slept
    from ckpt.task.thread import Answers
    from ckpt.tracee.stopped import SeizedTask


_STRICT, _FILTERED = b"\nSeccomp:\t1\n", b"\nSeccomp:\t2\n"
_CAP_SYS_ADMIN = 21


@record
class Snapshot:
    """A live task. `read` is what the vdso and the early pages of `content` held before the task
    was infected, each range by its start. `pages_id` names its pages file; `robust`, `cpus`,
    `threads` and `policies` are by thread, `files` and `urings` by position of the mapping,
    `bindings` by its start; `directories`, by thread, are cwd and root of those that do not share
    them with the process. `later`: pages that a
    live engine writes into `pages_lfd`, which is -1 where there are none."""

    task: SeizedTask
    facts: Facts
    content: Content
    read: dict[int, bytes]
    pages_id: int
    inside: Inside | None = None
    threads: dict[int, Answers] = field(default_factory=dict)
    robust: dict[int, tuple[int, int]] = field(default_factory=dict)
    cpus: dict[int, set[int]] = field(default_factory=dict)
    slack: dict[int, bytes] = field(default_factory=dict)
    scheds: dict[int, Sched] = field(default_factory=dict)
    filters: dict[int, Chain] = field(default_factory=dict)
    asleep: dict[int, Asleep] = field(default_factory=dict)
    pages_lfd: int = -1
    later: Extents = field(default_factory=Extents.none)
    lock_future: int = 0
    timers: TimersLeft | None = None
    pending: dict[int, tuple[bytes, ...]] = field(default_factory=dict)
    pending_at_ns: int = 0
    clock_ns: int = 0
    files: dict[int, MappedFile] = field(default_factory=dict)
    links: dict[str, int] = field(default_factory=dict)
    directories: dict[int, tuple[int, int]] = field(default_factory=dict)
    urings: dict[int, int] = field(default_factory=dict)
    policies: dict[int, Policy] = field(default_factory=dict)
    bindings: dict[int, Policy] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.facts.pid

    def find_pages(self, proc: ProcDir, known: Extents | None, guards: Extents | None) -> None:
        """Look up what the image must hold, before the task is infected. `known`: its pages, if
        somebody has looked for them already; `guards`: where guard pages may be, None: anywhere."""
        pagemap = proc.open("pagemap", os.O_RDONLY)
        try:
            self.content = content(pagemap, self.facts.smaps, known, guards)
        finally:
            os.close(pagemap)

    def read_early(self) -> None:
        """When `content` is what the image will hold: read what the infection would change."""
        for start, end in self.content.early:
            self.read[start] = vm.read(self.pid, start, end - start)

    def leave_pages(self) -> None:
        """Of the pages, those that may come late stay with the task."""
        vmas = [vma.from_smap(smap) for smap in self.facts.smaps]
        sealed = {smap.start for smap in self.facts.smaps if "sl" in smap.flags}
        late = Extents.of((r.start, r.end) for r in may_be_late(vmas, sealed))
        self.content = self.content.leaving(late)

    def take_pending(self) -> None:
        """Read the waiting signals anew, now that timers have been asked: by thread, those of the
        process under 0."""
        self.pending[0] = ops.pending(self.pid, shared=True)
        for stopped in self.task.threads:
            directed = any(t.notify_tid == stopped.tid for t in self.facts.timers)
            self.pending[stopped.tid] = (
                ops.pending(stopped.tid, shared=False) if directed else stopped.pending
            )
        self.pending_at_ns = time.monotonic_ns()

    def clocks_stop(self, clock_ns: int, stood_ns: int) -> None:
        """At `clock_ns`, from which they will go on, where its threads have stood since `stood_ns`
        (CLOCK_MONOTONIC): their sleeps went on for so long."""
        self.clock_ns = clock_ns
        passed_ns = max(0, clock_ns - stood_ns)
        self.asleep = {tid: sleep.less(passed_ns) for tid, sleep in self.asleep.items()}

    def filter_obstacles(self, *, risk: bool) -> Iterator[Refusal]:
        """What of its seccomp filters is in the way of an infection, or of a restore. `risk`: they
        may kill it, should we end midway."""
        if not self.filters:
            return
        common = seccomp.common([self.filters.get(t.tid, ()) for t in self.task.threads])
        for tid, chain in self.filters.items():
            where = "the task" if tid == self.pid else f"thread {tid}"
            why, hint = seccomp.supervised(chain), ""
            if not why and not risk:
                why, hint = seccomp.hazard(chain), RISK_HINT
            status = self.facts.thread_status(tid)
            powers = (
                chain == (seccomp.STRICT_MODE,)
                or status.no_new_privs
                or status.capabilities.effective >> _CAP_SYS_ADMIN & 1
            )
            if not why and tid != self.pid and chain != common and not powers:
                why = "it has a seccomp filter of its own, and no right to install it again"
            if why:
                yield Refusal(self.pid, where, why, hint)

    def rings(self) -> list[Mapping]:
        """The rings of its AIO contexts."""
        return [s.mapping for s in self.facts.smaps if vma.is_aio(s.mapping)]

    def ring_obstacles(self) -> Iterator[Refusal]:
        """What is wrong with them."""
        for mapping in self.rings():
            if why := aio.obstacle(self.pid, mapping.range):
                yield Refusal(self.pid, f"mapping {mapping}", why)

    def take_urings(self, files: FilesDump) -> Iterator[Refusal]:
        """Note which rings of io_uring and of packet sockets are mapped, now that they have ids."""
        for i, smap in enumerate(self.facts.smaps):
            mapping = smap.mapping
            if vma.is_uring(mapping):
                self.urings[i] = files.ring_of(mapping.ino)
                why = "it is of an io_uring that nobody in the tree has open"
            elif vma.is_socket(mapping):
                size = 0 if mapping.pgoff else mapping.end - mapping.start
                self.urings[i] = files.packet_ring_of(mapping.ino, size)
                why = "it is not all of the ring of a packet socket that the tree has open"
            else:
                continue
            if not self.urings[i]:
                yield Refusal(self.pid, f"mapping {mapping}", why)

    def hold_filters_off(self) -> None:
        """Seccomp does not judge the threads from here on, until they are let go."""
        for tid in self.filters:
            filters.hold_off(tid)

    def take_files(self, files: FilesDump, proc: ProcDir) -> None:
        """Note which files stand behind the mappings, the executable, the directories."""
        backed = vma.Backing.FILE
        mapped = [i for i, s in enumerate(self.facts.smaps) if vma.backing_of(s) is backed]
        found = files.files_for_mappings(proc, (self.facts.smaps[i].mapping for i in mapped))
        self.files = dict(zip(mapped, found, strict=True))
        self.links = {name: files.file_for_path_link(self.pid, name) for name in PATH_LINKS}
        for tid in apart(self.pid, self.facts.threads, FS):
            cwd, root = (files.file_for_path_link(tid, name) for name in ("cwd", "root"))
            self.directories[tid] = cwd, root

    def vmas(self) -> list[Vma]:
        """The mappings with the ids of what stands behind them."""
        whole = [vma.from_smap(smap) for smap in self.facts.smaps]
        for i, v in enumerate(whole):
            if v.backing is vma.Backing.SHMEM:
                whole[i] = replace(v, shmid=object_id(self.facts.smaps[i]))
        for i, ring in self.urings.items():
            whole[i] = replace(whole[i], shmid=ring)
        for i, file in self.files.items():
            whole[i] = replace(whole[i], shmid=file.id, file_flags=file.flags)
        return whole


def take(task: SeizedTask, facts: Facts, pages_id: int, slept: Slept) -> Snapshot:
    """Take from a stopped task what can be had from outside, before it is infected: the first use
    of the parasite leaves a mark on pages of the vdso and of one mapping's padding."""
    taken = Snapshot(task, facts, NO_CONTENT, _vdso(facts), pages_id)
    for tid in facts.threads:
        taken.robust[tid] = robust_list(tid)
        taken.cpus[tid] = os.sched_getaffinity(tid)
        taken.slack[tid] = timer_slack(tid)
        taken.scheds[tid] = sched.ask(tid)
        if _STRICT in facts.threads[tid][1]:
            taken.filters[tid] = (seccomp.STRICT_MODE,)
        if _FILTERED in facts.threads[tid][1]:
            chain = filters.filters(tid)
            taken.filters[tid] = tuple(seccomp.Filter(program, flags) for program, flags in chain)
    for stopped in task.threads:
        found = sleeping.asleep(stopped.regs, lambda addr, size: vm.read(task.pid, addr, size))
        if found is not None:
            if found.left_ns is None and stopped.tid in slept.sleeps:
                switches = facts.thread_status(stopped.tid).voluntary_switches
                found = found.after(slept.passed_ns(stopped.tid, switches))
            taken.asleep[stopped.tid] = found
    return taken


def _vdso(facts: Facts) -> dict[int, bytes]:
    found = {}
    for smap in facts.smaps:
        if smap.mapping.path == vma.VDSO:
            found[smap.start] = vm.read(facts.pid, smap.start, smap.end - smap.start)
    return found


def timer_slack(tid: int) -> bytes:
    """/proc/TID/timerslack_ns; empty where this kernel has none. It is not under task/."""
    try:
        return read_at(-1, f"/proc/{tid}/timerslack_ns")
    except OSError:
        return b""


def robust_list(tid: int) -> tuple[int, int]:
    """Head and length of a thread's robust futex list, get_robust_list(2)."""
    out = ffi.new("uint64_t[2]")
    head = int(ffi.cast("uintptr_t", out))
    check(
        lib.ckpt_call(number("get_robust_list"), tid, head, head + 8, 0, 0, 0),
        f"robust list of thread {tid}",
    )
    where, length = struct.unpack("=QQ", bytes(ffi.buffer(out)))
    return where, length if where else 0
