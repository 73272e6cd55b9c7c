"""One task as it stood: all that was taken from it while it was frozen, nothing encoded yet."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib
from ckpt.dump.shared import object_id
from ckpt.errors import TargetError
from ckpt.files.mapped import PATH_LINKS
from ckpt.infect.batch import number
from ckpt.mem import vma
from ckpt.mem.transfer import Content, content
from ckpt.procfs.reader import read_at

if TYPE_CHECKING:
    from ckpt.dump.facts import Facts
    from ckpt.dump.inside import Inside
    from ckpt.files.dump import FilesDump
    from ckpt.files.mapped import MappedFile
    from ckpt.mem.vma import Vma
    from ckpt.procfs.reader import ProcDir
    from ckpt.task.thread import Answers
    from ckpt.tracee.stopped import SeizedTask


@dataclass(slots=True)
class Snapshot:
    """A live task. `pages_id` names its pages file; `robust`, `cpus` and `threads` are by thread,
    `files` by position of the mapping."""

    task: SeizedTask
    facts: Facts
    content: Content
    vdso: dict[int, bytes]
    pages_id: int
    inside: Inside | None = None
    threads: dict[int, Answers] = field(default_factory=dict)
    robust: dict[int, tuple[int, int]] = field(default_factory=dict)
    cpus: dict[int, set[int]] = field(default_factory=dict)
    slack: dict[int, bytes] = field(default_factory=dict)

    lock_future: int = 0
    files: dict[int, MappedFile] = field(default_factory=dict)
    links: dict[str, int] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.facts.pid

    def take_files(self, files: FilesDump, proc: ProcDir) -> None:
        """Note which files stand behind the mappings, the executable, the directories."""
        backed = vma.Backing.FILE
        mapped = [i for i, s in enumerate(self.facts.smaps) if vma.backing_of(s) is backed]
        found = files.files_for_mappings(proc, (self.facts.smaps[i].mapping for i in mapped))
        self.files = dict(zip(mapped, found, strict=True))
        self.links = {name: files.file_for_path_link(self.pid, name) for name in PATH_LINKS}

    def vmas(self) -> list[Vma]:
        """The mappings with the ids of what stands behind them."""
        whole = [vma.from_smap(smap) for smap in self.facts.smaps]
        for i, v in enumerate(whole):
            if v.backing is vma.Backing.SHMEM:
                whole[i] = replace(v, shmid=object_id(self.facts.smaps[i]))
        for i, file in self.files.items():
            whole[i] = replace(whole[i], shmid=file.id, file_flags=file.flags)
        return whole


def take(task: SeizedTask, facts: Facts, proc: ProcDir, pages_id: int) -> Snapshot:
    """Take from a stopped task what can be had from outside, before it is infected: the first use
    of the parasite leaves a mark on pages of the vdso and of one mapping's padding."""
    pagemap = proc.open("pagemap", os.O_RDONLY)
    try:
        held = content(pagemap, facts.smaps)
    finally:
        os.close(pagemap)
    taken = Snapshot(task, facts, held, _vdso(facts), pages_id)
    for tid in facts.threads:
        taken.robust[tid] = robust_list(tid)
        taken.cpus[tid] = os.sched_getaffinity(tid)
        taken.slack[tid] = timer_slack(tid)
    return taken


def _vdso(facts: Facts) -> dict[int, bytes]:
    found = {}
    for smap in facts.smaps:
        if smap.mapping.path == vma.VDSO:
            buffer = bytearray(smap.end - smap.start)
            done = lib.ckpt_vm_read(facts.pid, smap.start, ffi.from_buffer(buffer), len(buffer))
            if check(done, f"vdso of pid {facts.pid}") != len(buffer):
                raise TargetError("its vdso can't be read", pid=facts.pid)
            found[smap.start] = bytes(buffer)
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
