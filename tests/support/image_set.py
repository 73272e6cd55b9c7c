"""A synthetic image set of a small tree, with something of every kind, made without a kernel.

The tree: 10 `shell` with threads 10 and 11, its child 20 `work er` (stopped), its zombie 30.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ckpt.images import pagemap
from ckpt.images.pagemap import PE_LAZY, PE_PRESENT, Run
from ckpt.images.types import message_class
from ckpt.images.writer import ImageSetWriter

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096
CODE, HEAP, STACK = 0x400000, 0x10000000, 0x7FFD00000000
VSYSCALL = 0xFFFFFFFFFF600000
PIPE_DATA = b"in flight\n"


def new(ref: str, **fields: Any) -> Any:
    """A message by the name that ckpt.images.types gives it."""
    return message_class(ref)(**fields)


def inventory(**fields: Any) -> Any:
    """A minimal inventory that is accepted."""
    return new("inventory.inventory_entry", **{"img_version": 2, "fdinfo_per_id": True, **fields})


def owner() -> Any:
    """Nobody's SIGIO."""
    return new("fown.fown_entry", uid=0, euid=0, signum=0, pid_type=0, pid=0)


def registers() -> Any:
    """Thread information of x86 with all components of the extended state."""
    general = {
        name: number
        for number, name in enumerate(
            [
                "r15",
                "r14",
                "r13",
                "r12",
                "bp",
                "bx",
                "r11",
                "r10",
                "r9",
                "r8",
                "ax",
                "cx",
                "dx",
                "si",
                "di",
                "orig_ax",
                "ip",
                "cs",
                "flags",
                "sp",
                "ss",
                "fs_base",
                "gs_base",
                "ds",
                "es",
                "fs",
                "gs",
            ]
        )
    }
    fxsave = dict.fromkeys(("cwd", "swd", "twd", "fop", "rip", "rdp", "mxcsr", "mxcsr_mask"), 7)
    return new(
        "core_x86.thread_info_x86",
        clear_tid_addr=HEAP,
        gpregs=general,
        fpregs={
            **fxsave,
            "st_space": range(32),
            "xmm_space": range(64),
            "xsave": {
                "xstate_bv": 0xE7,
                "ymmh_space": range(64),
                "opmask_reg": range(8),
                "zmm_upper": range(64),
                "hi16_zmm": range(128),
                "pkru": [0x55555554, 0],
            },
        },
    )


def core(comm: str, *, state: int | None = 1, **task: Any) -> Any:
    """A core: of a leader, or with state None of another thread."""
    creds = dict.fromkeys(
        ["uid", "gid", "euid", "egid", "suid", "sgid", "fsuid", "fsgid", "secbits"], 1000
    )
    entry = new(
        "core.core_entry",
        mtype=1,
        thread_core={
            "futex_rla": HEAP + 16,
            "futex_rla_len": 24,
            "sched_nice": -5,
            "sched_policy": 0,
            "blk_sigset": 1 << 63,
            "sas": {"ss_sp": STACK, "ss_size": 8192, "ss_flags": 0},
            "signals_p": {"signals": [{"siginfo": bytes(128)}]},
            "creds": {**creds, "cap_eff": [0, 0], "groups": [4, 24], "no_new_privs": 1},
            "comm": comm,
            "rseq_entry": {"rseq_abi_pointer": HEAP, "rseq_abi_size": 32, "signature": 0x53053053},
            "cg_set": 1,
        },
    )
    entry.thread_info.CopyFrom(registers())
    if state is not None:
        entry.tc.MergeFrom(
            new(
                "core.task_core_entry",
                task_state=state,
                exit_code=0,
                personality=0,
                flags=0x400000,
                blk_sigset=0,
                comm=comm,
                timers=dict.fromkeys(
                    ("real", "virt", "prof"), dict.fromkeys(("isec", "iusec", "vsec", "vusec"), 0)
                ),
                rlimits={"rlimits": [{"cur": 1024, "max": 2**64 - 1}] * 16},
                sigactions=[{"sigaction": 1, "flags": 0, "restorer": 0, "mask": 0}] * 62,
                **task,
            )
        )
    return entry


def vma(start: int, nr_pages: int, status: int, **fields: Any) -> dict[str, Any]:
    """Fields of a mapping."""
    common = {"pgoff": 0, "shmid": 0, "prot": 3, "flags": 0x22, "status": status, "fd": -1}
    return {"start": start, "end": start + nr_pages * PAGE, **common, **fields}


def memory() -> Any:
    """The memory of one task: code of file 2, heap, memory shared with its kin, stack."""
    bounds = (
        "start_code end_code start_data end_data start_stack start_brk brk arg_start arg_end"
        " env_start env_end"
    )
    return new(
        "mm.mm_entry",
        **{f"mm_{name}": CODE + number for number, name in enumerate(bounds.split())},
        exe_file_id=2,
        mm_saved_auxv=[6, PAGE, 0, 0],
        dumpable=1,
        vmas=[
            vma(CODE, 2, 1 | 1 << 6, shmid=2, prot=5, flags=2),
            vma(HEAP, 4, 1 | 1 << 9),
            vma(HEAP + 0x100000, 2, 1 | 1 << 8, shmid=77, flags=0x21),
            vma(STACK, 2, 1 | 1 << 1 | 1 << 9, flags=0x122),
            # crit's rss walks past the end if the last mapping has pages.
            vma(VSYSCALL, 1, 1 << 2, prot=5),
        ],
    )


def regular(ident: int, name: str, **fields: Any) -> Any:
    """A file that was opened by path."""
    reg = {"id": ident, "flags": 0x8000, "pos": 0, "fown": owner(), "name": name, **fields}
    return new("fdinfo.file_entry", type=1, id=ident, reg=reg)


def files() -> list[Any]:
    """Open file descriptions: directories, a program, both ends of a pipe, a terminal."""
    ends = [
        new(
            "fdinfo.file_entry",
            type=2,
            id=ident,
            pipe={"id": ident, "pipe_id": 5, "flags": flags, "fown": owner()},
        )
        for ident, flags in ((3, 0), (4, 1))
    ]
    terminal = {"id": 6, "tty_info_id": 1, "flags": 2, "fown": owner()}
    return [
        regular(1, "/"),
        regular(2, "/bin/shell", size=PAGE, mode=0o100755),
        *ends,
        new("fdinfo.file_entry", type=11, id=6, tty=terminal),
    ]


def task(writer: ImageSetWriter, pid: int, comm: str, **fields: Any) -> None:
    """All images of one task; its numbers are its pid."""
    ids = dict.fromkeys(("vm_id", "files_id", "fs_id", "sighand_id"), pid)
    writer.write(f"core-{pid}", [core(comm, **fields)])
    writer.write(f"ids-{pid}", [new("core.task_kobj_ids_entry", **ids)])
    writer.write(f"fs-{pid}", [new("fs.fs_entry", cwd_id=1, root_id=1, umask=0o22)])
    writer.write(f"mm-{pid}", [memory()])
    writer.write(
        f"fdinfo-{pid}",
        [
            new("fdinfo.fdinfo_entry", id=6, flags=0, type=11, fd=0),
            new("fdinfo.fdinfo_entry", id=3 if pid == 10 else 4, flags=1, type=2, fd=3),
        ],
    )
    runs = [Run(HEAP, 2, PE_PRESENT), Run(STACK, 1, PE_PRESENT | PE_LAZY)]
    writer.write(f"pagemap-{pid}", pagemap.pagemap_messages(pid, runs))
    write_pages(writer, pid, 3)


def write_pages(writer: ImageSetWriter, number: int, nr_pages: int) -> None:
    """Fill pages-`number`.img: page N has only bytes N % 256."""
    for page in range(nr_pages):
        os.write(writer.pages(number), bytes([page % 256]) * PAGE)
        writer.advance(number, (page + 1) * PAGE)


def write_set(directory: Path, *, zombie: bool = True, commit: bool = True) -> ImageSetWriter:
    """Write the set. Without `commit`, the writer is left as it is just before."""
    writer = ImageSetWriter(directory)
    tree = [(10, 0, [10, 11]), (20, 10, [20])] + ([(30, 10, [])] if zombie else [])
    writer.write(
        "pstree",
        [
            new("pstree.pstree_entry", pid=pid, ppid=ppid, pgid=10, sid=10, threads=threads)
            for pid, ppid, threads in tree
        ],
    )
    task(writer, 10, "shell")
    extra = new("ckpt_thread.ckpt_thread_entry", cpus=b"\x03", timerslack_ns=50_000)
    writer.write("ckpt-thread-10", [extra])
    writer.write("core-11", [core("helper", state=None)])
    task(writer, 20, "work er", state=3, stop_signo=19)
    if zombie:
        dead = core("gone", state=2)
        dead.ClearField("thread_info")
        dead.ClearField("thread_core")
        dead.tc.exit_code = 256
        writer.write("core-30", [dead])
    write_shared(writer)
    ids = dict.fromkeys(("vm_id", "files_id", "fs_id", "sighand_id"), 0)
    writer.write(
        "inventory",
        [
            inventory(
                root_ids=ids,
                ns_per_id=True,
                root_cg_set=1,
                lsmtype=0,
                dump_criu_run_id="00000000-0000-4000-8000-000000000000",
            )
        ],
    )
    if commit:
        writer.commit()
    return writer


def write_shared(writer: ImageSetWriter) -> None:
    """The images that a set holds once."""
    writer.write("files", files())
    writer.write("pagemap-shmem-77", pagemap.pagemap_messages(1, [Run(0, 1, PE_PRESENT)]))
    write_pages(writer, 1, 1)
    data = new("pipe_data.pipe_data_entry", pipe_id=5, bytes=len(PIPE_DATA), size=65536)
    writer.write("pipes-data", [(data, PIPE_DATA)])
    writer.write("fifo-data", [])
    terminal = dict.fromkeys(["id", "type", "packet_mode", "sid", "pgrp", "rdev"], 1)
    writer.write("tty-info", [new("tty.tty_info_entry", **terminal, locked=False, exclusive=False)])
    writer.write("tty-data", [new("tty.tty_data_entry", tty_id=1, data=b"ls\n")])
    lock = {"flag": 1, "type": 1, "pid": 10, "fd": 3, "start": 0, "len": 0}
    writer.write("filelocks", [new("file_lock.file_lock_entry", **lock)])
    ghost = new("ghost_file.ghost_file_entry", uid=0, gid=0, mode=0o100600)
    writer.write("ghost-file-1f", [(ghost, b"nameless")])
    remap = new("remap_file_path.remap_file_path_entry", orig_id=2, remap_id=31, remap_type=1)
    writer.write("remap-fpath", [remap])
    memfd = {"name": "m", "uid": 0, "gid": 0, "size": PAGE, "shmid": 77, "seals": 1, "inode_id": 9}
    writer.write("memfd", [new("memfd.memfd_inode_entry", **memfd)])
    writer.write("seccomp", [new("seccomp.seccomp_entry", seccomp_filters=[{"filter": b"\0" * 8}])])
    now = {"tv_sec": 5, "tv_nsec": 6}
    writer.write("timens-0", [new("timens.timens_entry", monotonic=now, boottime=now)])
    member = {"name": "memory", "path": "/a"}
    writer.write("cgroup", [new("cgroup.cgroup_entry", sets=[{"id": 1, "ctls": [member]}])])
    cpu = dict.fromkeys(["vendor_id", "cpu_family", "model", "stepping", "capability_ver"], 1)
    writer.write("cpuinfo", [new("cpuinfo.cpuinfo_entry", x86_entry=[cpu])])
    times = "freezing_time frozen_time memdump_time memwrite_time pages_scanned pages_lazy"
    pages = "pages_skipped_parent pages_written"
    dump = dict.fromkeys(f"{times} {pages}".split(), 7)
    writer.write("stats-dump", [new("stats.stats_entry", dump=dump)])
