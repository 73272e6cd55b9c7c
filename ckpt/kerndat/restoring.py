"""Probes of what a restored task is given: its pid, its mm, its vdso, its timers.

Source: clone(2) (clone3, set_tid), prctl(2), PR_SET_MM, timer_create(2), arch_prctl(2).
"""

from __future__ import annotations

import errno
import os
import struct
from mmap import PAGESIZE
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib
from ckpt.kerndat.probe import Finding, Need, limited, missing, probe
from ckpt.kerndat.trial import address, call, expect, in_child, pages
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.stat import parse_stat

if TYPE_CHECKING:
    from ckpt.procfs.maps import Mapping

_PR_SET_MM, _PR_SET_MM_MAP, _PR_SET_MM_MAP_SIZE = 35, 14, 15
_PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
_PR_SET_VMA, _PR_SET_VMA_ANON_NAME = 0x53564D41, 0
_PR_TIMER_CREATE_RESTORE_IDS = 77
_ARCH_MAP_VDSO_32, _ARCH_MAP_VDSO_64 = 0x2002, 0x2003
_NO_FD = 2**32 - 1


@probe(
    "clone3_set_tid",
    Need.HOST,
    "giving restored tasks the pids that they had",
    "no restore",
    criu=("clone3_set_tid",),
)
def clone3_set_tid() -> None:
    highest = int(Path("/proc/sys/kernel/pid_max").read_bytes())
    for pid in range(highest - 1, max(highest - 50, 1), -1):
        result = int(lib.ckpt_probe_set_tid(pid))
        if result != -errno.EEXIST:
            check(result, "clone3")
            return
    raise OSError(errno.EEXIST, "no free pid was found to try it with")


@probe(
    "ns_last_pid",
    Need.LATER,
    "choosing pids on kernels without clone3 set_tid",
    "nothing where clone3_set_tid is there",
)
def ns_last_pid() -> None:
    os.close(os.open("/proc/sys/kernel/ns_last_pid", os.O_RDWR | os.O_CLOEXEC))


@probe(
    "shm_next_id",
    Need.TREE,
    "giving System V shared memory its ids again",
    "segments are restored only where they still are",
)
def shm_next_id() -> None:
    os.close(os.open("/proc/sys/kernel/shm_next_id", os.O_RDWR | os.O_CLOEXEC))


@probe("pr_set_mm_map", Need.HOST, "brk, arguments, environment, auxv of a task", "no restore")
def pr_set_mm_map() -> None:
    """A child gives itself what it has."""
    size = bytearray(4)
    call("prctl", _PR_SET_MM, _PR_SET_MM_MAP_SIZE, address(size))
    expect(int.from_bytes(size, "little") == 13 * 8, "struct prctl_mm_map has another size")

    def trial() -> None:
        stat = parse_stat(Path("/proc/self/stat").read_bytes())
        words = (
            *(stat.start_code, stat.end_code, stat.start_data, stat.end_data, stat.start_brk),
            *(call("brk", 0), stat.start_stack, stat.arg_start, stat.arg_end),
            *(stat.env_start, stat.env_end, 0),
        )
        mm = bytearray(struct.pack("=12QII", *words, 0, _NO_FD))
        call("prctl", _PR_SET_MM, _PR_SET_MM_MAP, address(mm), len(mm))

    in_child(trial)


def _mappings() -> list[Mapping]:
    return parse_maps(Path("/proc/self/maps").read_bytes())


@probe("mremap_vdso", Need.HOST, "moving the vdso to where the task had it", "no restore")
def mremap_vdso() -> None:
    vdso = next((m for m in _mappings() if m.path == "[vdso]"), None)
    if vdso is None:
        raise OSError(errno.ENOENT, "this process has no vdso")
    with pages((vdso.end - vdso.start) // PAGESIZE) as (_, addr):
        check(int(lib.ckpt_probe_move_vdso(vdso.start, vdso.end - vdso.start, addr)), "mremap")


@probe(
    "can_map_vdso",
    Need.LATER,
    "mapping a vdso anew",
    "the one that a task was born with is moved",
    criu=("can_map_vdso",),
)
def can_map_vdso() -> None:
    def trial() -> None:
        try:
            call("arch_prctl", _ARCH_MAP_VDSO_64, 0)
        except OSError as error:
            if error.errno != errno.EEXIST:  # there is one already: the request is known
                raise

    in_child(trial)


@probe(
    "compat_cr",
    Need.LATER,
    "32-bit programs",
    "they are refused",
    criu=("compat_cr",),
)
def compat_cr() -> Finding:
    return missing("ckpt does not dump 32-bit code yet")


@probe(
    "timer_restore_ids",
    Need.TREE,
    "POSIX timers with the ids that they had",
    "timers are made and deleted until the id fits",
    criu=("timer_cr_ids",),
)
def timer_restore_ids() -> None:
    def trial() -> None:
        call("prctl", _PR_TIMER_CREATE_RESTORE_IDS, 1)
        wanted = bytearray(struct.pack("i", 77))
        call("timer_create", 1, 0, address(wanted))
        expect(struct.unpack("i", wanted)[0] == 77, "another id")

    in_child(trial)


@probe("mdwe", Need.TREE, "tasks that gave up executable writable memory", "nothing")
def mdwe() -> None:
    in_child(lambda: call("prctl", _PR_SET_MDWE, _PR_MDWE_REFUSE_EXEC_GAIN))


@probe(
    "vma_anon_name",
    Need.TREE,
    "names of anonymous mappings",
    "nothing where programs can't give any; else they are lost",
)
def vma_anon_name() -> None:
    name = bytearray(b"ckpt\0")
    with pages(1) as (_, addr):
        call("prctl", _PR_SET_VMA, _PR_SET_VMA_ANON_NAME, addr, PAGESIZE, address(name))


@probe(
    "map_files",
    Need.HOST,
    "mapped files, also those without a name",
    "no dump of programs that map files",
)
def map_files() -> None:
    files = (m for m in _mappings() if m.path.startswith("/") and not m.deleted)
    mapping = next(files, None)
    if mapping is None:
        raise OSError(errno.ENOENT, "this process maps no file")
    path = Path(f"/proc/self/map_files/{mapping.start:x}-{mapping.end:x}")
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        expect(os.fstat(fd).st_ino == mapping.ino, "another file")
    finally:
        os.close(fd)


@probe(
    "aio_remap",
    Need.TREE,
    "rings of the AIO of Linux, moved to where they were",
    "tasks with AIO contexts can't be restored",
    criu=("aio_remap",),
)
def aio_remap() -> None:
    def trial() -> None:
        context = bytearray(8)
        call("io_setup", 1, address(context))
        start = int.from_bytes(context, "little")
        length = next(m.end - m.start for m in _mappings() if m.start == start)
        with pages(length // PAGESIZE) as (_, addr):
            call("mremap", start, length, length, 3, addr)
            call("io_getevents", addr, 0, 1, 0, 0)
            os._exit(0)

    in_child(trial)


@probe(
    "membarrier_get_registrations",
    Need.TREE,
    "registrations for membarrier",
    "they are found by trying",
    criu=("membarrier_get_registrations",),
)
def membarrier_get_registrations() -> None:
    call("membarrier", 1 << 9, 0, 0)


@probe(
    "loginuid",
    Need.TREE,
    "the audit uid of a task",
    "restored tasks keep ckpt's",
    criu=("loginuid",),
)
def loginuid() -> None:
    def trial() -> None:
        path = Path("/proc/self/loginuid")
        path.write_bytes(path.read_bytes())

    in_child(trial)


@probe("rseq", Need.TREE, "restartable sequences", "nothing where the kernel has none")
def rseq() -> None:
    """Registered by the C library already, or possible: both say that the kernel has it."""
    buffer = ffi.new("char[64]")
    start = (int(ffi.cast("uintptr_t", buffer)) + 31) & ~31

    def trial() -> None:
        try:
            call("rseq", start, 32, 0, 0x53053053)
        except OSError as error:
            if error.errno not in (errno.EBUSY, errno.EINVAL, errno.EPERM):
                raise

    in_child(trial)


@probe(
    "proc_children",
    Need.BETTER,
    "finding the children of a process",
    "all processes are looked at for their parent",
)
def proc_children() -> None:
    Path("/proc/thread-self/children").read_bytes()


@probe("proc_timers", Need.TREE, "the POSIX timers of a task", "tasks can't be seen to have timers")
def proc_timers() -> Finding | None:
    if not Path("/proc/self/timers").exists():
        return limited("no CONFIG_CHECKPOINT_RESTORE")
    return None
