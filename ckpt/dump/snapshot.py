"""One task as it stood: all that was taken from it while it was frozen, nothing encoded yet."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib
from ckpt.dump.shared import object_id
from ckpt.files.mapped import PATH_LINKS
from ckpt.infect.batch import number
from ckpt.mem import vma
from ckpt.mem.extents import first_guard
from ckpt.mem.transfer import Content, content

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
    """A live task. `pages_id` names its pages file; `guard` is the address of a guard page, if it
    has any; `robust` and `cpus` are by thread."""

    task: SeizedTask
    facts: Facts
    vmas: list[Vma]
    content: Content
    vdso: dict[int, bytes]
    pages_id: int
    guard: int | None
    inside: Inside | None = None
    threads: dict[int, Answers] = field(default_factory=dict)
    robust: dict[int, tuple[int, int]] = field(default_factory=dict)
    cpus: dict[int, set[int]] = field(default_factory=dict)

    files: dict[int, MappedFile] = field(default_factory=dict)
    links: dict[str, int] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self.facts.pid

    def take_files(self, files: FilesDump, proc: ProcDir) -> None:
        """Note which files stand behind the mappings, the executable, the directories."""
        mapped = [i for i, v in enumerate(self.vmas) if v.backing is vma.Backing.FILE]
        found = files.files_for_mappings(proc, (self.facts.smaps[i].mapping for i in mapped))
        self.files = dict(zip(mapped, found, strict=True))
        self.links = {name: files.file_for_path_link(self.pid, name) for name in PATH_LINKS}

    def with_ids(self) -> list[Vma]:
        """The mappings with the ids of what stands behind them."""
        whole = list(self.vmas)
        for i, v in enumerate(self.vmas):
            if v.backing is vma.Backing.SHMEM:
                whole[i] = replace(v, shmid=object_id(self.facts.smaps[i]))
        for i, file in self.files.items():
            whole[i] = replace(self.vmas[i], shmid=file.id, file_flags=file.flags)
        return whole


def take(task: SeizedTask, facts: Facts, proc: ProcDir, pages_id: int) -> Snapshot:
    """Take from a stopped task what can be had from outside, before it is infected: the first use
    of the parasite leaves a mark on pages of the vdso and of one mapping's padding."""
    vmas = [vma.from_smap(smap) for smap in facts.smaps]
    pagemap = proc.open("pagemap", os.O_RDONLY)
    try:
        held = content(pagemap, vmas)
        guard = first_guard(pagemap, ((v.range.start, v.range.end) for v in vmas if v.private))
    finally:
        os.close(pagemap)
    taken = Snapshot(task, facts, vmas, held, _vdso(facts.pid, vmas), pages_id, guard)
    for tid in facts.threads:
        taken.robust[tid] = robust_list(tid)
        taken.cpus[tid] = os.sched_getaffinity(tid)
    return taken


def _vdso(pid: int, vmas: list[Vma]) -> dict[int, bytes]:
    found = {}
    for v in vmas:
        if v.status & vma.Status.VDSO:
            buffer = bytearray(len(v.range))
            done = lib.ckpt_vm_read(pid, v.range.start, ffi.from_buffer(buffer), len(buffer))
            check(done, f"vdso of pid {pid}")
            found[v.range.start] = bytes(buffer)
    return found


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
