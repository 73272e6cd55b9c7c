"""status, stat, limits, fdinfo, locks and the small files of one process."""

from __future__ import annotations

import os
import resource
import struct
from typing import TYPE_CHECKING, Any

import pytest

from ckpt.procfs import tty
from ckpt.procfs.auxv import AT_PAGESZ, parse_auxv
from ckpt.procfs.fdinfo import parse_fdinfo
from ckpt.procfs.limits import INFINITY, RESOURCES, parse_limits
from ckpt.procfs.locks import EOF, parse_lock, parse_locks
from ckpt.procfs.parse import ProcfsError
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.scalars import (
    LOGINUID_UNSET,
    parse_children,
    parse_coredump_filter,
    parse_loginuid,
    parse_oom_score_adj,
    parse_personality,
    parse_timerslack_ns,
)
from ckpt.procfs.stat import is_io_worker, parse_stat
from ckpt.procfs.status import parse_name, parse_status
from ckpt.procfs.syscall import SyscallState, parse_syscall
from ckpt.procfs.timens import TimensOffsets, parse_timens_offsets, render_timens_offsets
from ckpt.procfs.timers import parse_timers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STAT = (
    "42 (a) b (c)) T 7 8 9 34818 -1 4194368 1 2 3 4 50 60 7 8 20 -5 3 0 1234 4096 5"
    " 18446744073709551615 100 200 300 0 0 0 0 0 0 0 0 0 17 1 0 2 0 0 0 400 500 600 700 800 900"
    " 1000 256\n"
)


def own(name: str) -> bytes:
    with ProcDir(os.getpid()) as proc:
        return proc.read(name)


def test_status_of_ourselves() -> None:
    status = parse_status(own("status"))
    assert status.pid == status.tgid == status.ns_pid[0] == os.getpid()
    assert status.ppid == os.getppid()
    assert (status.uid.real, status.uid.effective, status.uid.saved) == os.getresuid()
    assert status.ns_sid[0] == os.getsid(0)
    assert set(status.groups) == set(os.getgroups())
    assert status.has_mm
    assert not status.zombie
    assert status.cpus_allowed.bit_count() == len(os.sched_getaffinity(0))
    umask = os.umask(0)
    os.umask(umask)
    assert status.umask == umask


@pytest.mark.parametrize("key", [b"Pid", b"State", b"Uid", b"SigBlk", b"CapEff", b"Threads"])
def test_status_without_a_line_names_it(key: bytes) -> None:
    kept = [line for line in own("status").splitlines(True) if not line.startswith(key + b":")]
    with pytest.raises(ProcfsError, match=key.decode()):
        parse_status(b"".join(kept))


@pytest.mark.parametrize(
    "gone", [b"Umask", b"NSpid", b"CoreDumping", b"VmSize", b"Seccomp_filters"]
)
def test_status_of_older_kernels(gone: bytes) -> None:
    kept = [line for line in own("status").splitlines(True) if not line.startswith(gone + b":")]
    status = parse_status(b"".join(kept))
    assert status.pid == status.ns_pid[0]


def test_name_is_unescaped() -> None:
    assert parse_name(rb"a\nb\\nc") == "a\nb\\nc"


def test_zombie() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(3)
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        with ProcDir(pid) as proc:
            status = parse_status(proc.read("status"))
            stat = parse_stat(proc.read("stat"))
    finally:
        os.waitpid(pid, 0)
    assert status.zombie
    assert not status.has_mm
    assert os.waitstatus_to_exitcode(stat.exit_code) == 3


def test_stat_takes_any_command() -> None:
    stat = parse_stat(STAT.encode())
    assert (stat.pid, stat.comm, stat.state, stat.ppid) == (42, "a) b (c)", "T", 7)
    assert (stat.tty_nr, stat.tpgid, stat.nice, stat.num_threads) == (34818, -1, -5, 3)
    assert (stat.starttime, stat.start_code, stat.end_code, stat.start_stack) == (
        1234,
        100,
        200,
        300,
    )
    assert (stat.exit_signal, stat.start_data, stat.start_brk, stat.arg_start) == (
        17,
        400,
        600,
        700,
    )
    assert (stat.env_start, stat.env_end, stat.exit_code, stat.policy) == (900, 1000, 256, 2)


def test_stat_of_a_worker() -> None:
    assert not is_io_worker(STAT.encode())
    assert is_io_worker(STAT.replace("4194368", "4194384").encode())
    assert not is_io_worker(b"42 (a) T 7 8")


def test_stat_of_ourselves() -> None:
    stat = parse_stat(own("stat"))
    assert (stat.pid, stat.ppid, stat.session) == (os.getpid(), os.getppid(), os.getsid(0))


@pytest.mark.parametrize(
    "text", ["", "42 x R 1\n", "42 (x) R 1\n", STAT[:-1], STAT.replace(" 7 ", " x ")]
)
def test_stat_refuses(text: str) -> None:
    with pytest.raises(ProcfsError):
        parse_stat(text.encode())


def test_limits_agree_with_getrlimit() -> None:
    limits = parse_limits(own("limits"))
    for number, name, _ in RESOURCES.values():
        if hasattr(resource, f"RLIMIT_{name.upper()}"):
            assert number == getattr(resource, f"RLIMIT_{name.upper()}")
        here = tuple(
            INFINITY if v == resource.RLIM_INFINITY else v for v in resource.getrlimit(number)
        )
        assert tuple(limits[number]) == here


@pytest.mark.parametrize("change", [(b"Max nice priority", b"Max strange"), (b"files", b"bytes")])
def test_limits_refuse_what_is_unknown(change: tuple[bytes, bytes]) -> None:
    with pytest.raises(ProcfsError):
        parse_limits(own("limits").replace(*change))


def test_limits_refuse_a_missing_one() -> None:
    with pytest.raises(ProcfsError, match="resource 15"):
        parse_limits(b"".join(own("limits").splitlines(True)[:-1]))


def test_fdinfo_of_a_file_with_a_lock(tmp_path: Path) -> None:
    import fcntl

    with (tmp_path / "x").open("w+b", buffering=0) as file:
        file.write(b"12345")
        fcntl.lockf(file, fcntl.LOCK_EX, 2, 1)
        info = parse_fdinfo(own(f"fdinfo/{file.fileno()}"))
        held = [k for k in parse_locks(_proc_locks()) if k.ino == os.fstat(file.fileno()).st_ino]
        assert info.pos == 5
        assert info.cloexec
        assert info.flags & os.O_ACCMODE == os.O_RDWR
        assert info.ino in (None, os.fstat(file.fileno()).st_ino)
        (lock,) = info.locks
        assert (lock.kind, lock.access, lock.pid) == ("POSIX", "WRITE", os.getpid())
        assert (lock.start, lock.end) == (1, 2)
        assert not lock.waiting
        assert len(held) == 1


def _proc_locks() -> bytes:
    from ckpt.procfs.reader import read_system

    return read_system("locks")


def test_fdinfo_keeps_the_lines_of_the_kind() -> None:
    info = parse_fdinfo(
        b"pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1057\n"
        b"tfd:        5 events:       19 data:                5  pos:0 ino:1 sdev:f\n"
        b"tfd:        6 events:       19 data:                6  pos:0 ino:1 sdev:f\n"
        b"inotify wd:1 ino:2\n"
    )
    assert [v.split()[0] for v in info.values("tfd")] == ["5", "6"]
    assert info.extra[2] == "inotify wd:1 ino:2"


@pytest.mark.parametrize(
    "data", [b"", b"pos:\t0\nflags:\t08\nmnt_id:\t1\n", b"pos:\t0\nflags:\t02\n"]
)
def test_fdinfo_refuses(data: bytes) -> None:
    with pytest.raises(ProcfsError):
        parse_fdinfo(data)


def test_lock_lines_of_all_kinds() -> None:
    waiter = parse_lock(b"3: -> FLOCK  ADVISORY  WRITE 12 fe:00:99 0 EOF")
    assert (waiter.waiting, waiter.kind, waiter.end) == (True, "FLOCK", EOF)
    lease = parse_lock(b"1: LEASE  ACTIVE    READ  12 00:2a:99 0 EOF")
    assert (lease.kind, lease.mode, lease.device) == ("LEASE", "ACTIVE", (0, 0x2A))
    ofd = parse_lock(b"1: OFDLCK ADVISORY  READ  -1 fe:00:99 10 20")
    assert (ofd.pid, ofd.start, ofd.end) == (-1, 10, 20)
    with pytest.raises(ProcfsError):
        parse_lock(b"1: POSIX ADVISORY READ")


def test_auxv() -> None:
    assert dict(parse_auxv(own("auxv")))[AT_PAGESZ] == resource.getpagesize()
    for bad in (b"1234", struct.pack("=QQ", 6, 4096), b"\1" * 8192):
        with pytest.raises(ProcfsError):
            parse_auxv(bad)


def test_timers() -> None:
    data = b"ID: 1\nsignal: 34/00007fff86e452a8\nnotify: signal/tid.77\nClockID: -6\n"
    (timer,) = parse_timers(data)
    assert (timer.timer_id, timer.signo, timer.sigval) == (1, 34, 0x7FFF86E452A8)
    assert (timer.notify, timer.notify_thread, timer.notify_tid, timer.clock) == (
        "signal",
        True,
        77,
        -6,
    )
    assert parse_timers(b"") == []
    with pytest.raises(ProcfsError):
        parse_timers(data + b"ID: 2\n")


def test_timens_offsets_round_trip() -> None:
    offsets = TimensOffsets(-1_500_000_000, 7)
    assert render_timens_offsets(offsets) == b"monotonic -2 500000000\nboottime 0 7\n"
    assert parse_timens_offsets(render_timens_offsets(offsets)) == offsets
    assert parse_timens_offsets(b"1 -2 5\n7 3 0\n") == TimensOffsets(-1_999_999_995, 3_000_000_000)


def test_syscall() -> None:
    assert parse_syscall(b"running\n") == SyscallState(None)
    assert parse_syscall(b"-1 0x7ffd 0x400\n") == SyscallState(-1, (), 0x7FFD, 0x400)
    state = parse_syscall(b"35 0x1 0x2 0x3 0x4 0x5 0x6 0x7ffd 0x400\n")
    assert (state.nr, state.args, state.pc) == (35, (1, 2, 3, 4, 5, 6), 0x400)


@pytest.mark.parametrize(
    ("parse", "data", "value"),
    [
        (parse_oom_score_adj, b"-1000\n", -1000),
        (parse_coredump_filter, b"00000033\n", 0x33),
        (parse_coredump_filter, b"", None),
        (parse_timerslack_ns, b"50000\n", 50000),
        (parse_loginuid, b"4294967295", LOGINUID_UNSET),
        (parse_personality, b"00040000\n", 0x40000),
        (parse_children, b"12 34 ", [12, 34]),
        (parse_children, b"", []),
    ],
)
def test_scalars(parse: Callable[[bytes], Any], data: bytes, value: object) -> None:
    assert parse(data) == value


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        (parse_oom_score_adj, b"2000\n"),
        (parse_coredump_filter, b"zz\n"),
        (parse_timerslack_ns, b"1_000\n"),
        (parse_loginuid, b"4294967296"),
        (parse_syscall, b"35 0x1\n"),
        (parse_timens_offsets, b"monotonic 1 1000000000\n"),
        (parse_children, b"1 -2\n"),
    ],
)
def test_scalars_refuse(parse: Callable[[bytes], Any], data: bytes) -> None:
    with pytest.raises(ProcfsError):
        parse(data)


def test_tty_numbers() -> None:
    assert tty.device(0) is None
    assert tty.device(34818) == (136, 2)
    assert tty.pts_index(34818) == 2
    assert tty.pts_index(4 << 8 | 1) is None
    assert tty.device(0x80100 << 12 | 136 << 8 | 5) == (136, 0x80100 << 0 | 5)
