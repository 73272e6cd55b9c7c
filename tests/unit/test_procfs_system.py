"""mountinfo, cgroup, namespaces, the reader and the process tree."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckpt.errors import CkptError, KernelError, TargetError
from ckpt.procfs import tree
from ckpt.procfs.cgroup import Cgroup, parse_cgroup
from ckpt.procfs.mountinfo import parse_mountinfo
from ckpt.procfs.nslink import KINDS, Namespaces, parse_ns_link
from ckpt.procfs.parse import ProcfsError
from ckpt.procfs.rawsock import RawSocket, parse_raw_sockets
from ckpt.procfs.reader import ProcDir, pids, read_system

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def family() -> Iterator[tuple[int, int, int]]:
    """A child with a child of its own and a zombie; all end when the pipe does."""
    read, write = os.pipe()
    tell_read, tell = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(write)
        grandchild = os.fork()
        if grandchild == 0:
            os.read(read, 1)
            os._exit(0)
        zombie = os.fork()
        if zombie == 0:
            os._exit(0)
        os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
        os.write(tell, f"{grandchild} {zombie}".encode())
        os.read(read, 1)
        os._exit(0)
    os.close(read)
    os.close(tell)
    grandchild, zombie = map(int, os.read(tell_read, 100).split())
    os.close(tell_read)
    yield child, grandchild, zombie
    os.close(write)
    os.waitpid(child, 0)


def test_tree_by_children_files(family: tuple[int, int, int]) -> None:
    child, grandchild, zombie = family
    found = tree.tree(child)
    assert found[0].pid == child
    assert found[0].ppid == os.getpid()
    assert {task.pid: task.state for task in found[1:]}.keys() == {grandchild, zombie}
    assert {task.pid: task.state for task in found}[zombie] == "Z"


def test_tree_by_a_scan_of_parents(
    family: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "has_children_files", lambda: False)
    assert {task.pid for task in tree.tree(family[0])} == set(family)


def test_tree_of_nobody() -> None:
    with pytest.raises(TargetError):
        tree.tree(2**22 + 1)


def test_reader_outlives_its_process() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    with ProcDir(pid) as proc:
        os.waitpid(pid, 0)
        assert not proc.alive()
        for look in (
            lambda: proc.read("stat"),
            lambda: proc.read_if("status"),
            lambda: proc.names("fd"),
            lambda: proc.readlink("exe"),
            lambda: proc.stat("exe"),
            lambda: proc.open("maps", os.O_RDONLY),
        ):
            with pytest.raises(TargetError) as error:
                look()
            assert f"pid {pid}" in str(error.value)


def test_reader_of_ourselves() -> None:
    with ProcDir(os.getpid()) as proc:
        assert proc.tids()[0] == os.getpid()
        assert proc.read_if("no-such-file") is None
        with pytest.raises(TargetError, match="has none"):
            proc.read("fdinfo/99999")
        assert os.fsdecode(proc.readlink("cwd")) == str(Path.cwd())
        assert proc.stat("cwd").st_ino == Path().stat().st_ino
        proc.write("coredump_filter", proc.read("coredump_filter"))
        fd = proc.open("maps", os.O_RDONLY)
        assert not os.get_inheritable(fd)
        os.close(fd)
        proc.close()
        proc.close()
    assert os.getpid() in pids()


def test_reader_reads_files_of_any_length(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    for size in (0, 1, 65536, 65537, 300_000):
        (tmp_path / "7" / "x").write_bytes(b"x" * size)
        with ProcDir(7, root=tmp_path) as proc:
            assert len(proc.read("x")) == size


def test_missing_system_file_is_a_kernel_error(tmp_path: Path) -> None:
    with pytest.raises(KernelError):
        read_system("locks", root=tmp_path)


def test_mountinfo() -> None:
    (mount,) = parse_mountinfo(
        b"36 35 98:0 /mnt1 /mnt\\0402 rw master:1 shared:2 - ext3 /dev/ro\\134ot ro,a\\054b=c d\n"
    )
    assert (mount.mnt_id, mount.parent_id, mount.device) == (36, 35, (98, 0))
    assert mount.mountpoint == "/mnt 2"
    assert mount.optional == ("master:1", "shared:2")
    assert mount.source == "/dev/ro\\ot"
    assert mount.readonly
    with ProcDir(os.getpid()) as proc:
        mounts = parse_mountinfo(proc.read("mountinfo"))
    assert any(m.mountpoint == "/" and m.dev == Path("/").stat().st_dev for m in mounts)


@pytest.mark.parametrize(
    "line", [b"\n", b"1 2 3:4 / / rw\n", b"1 2 34 / / rw - a b c\n", b"1 2 3:4 / / rw - a b\n"]
)
def test_mountinfo_refuses(line: bytes) -> None:
    with pytest.raises(ProcfsError):
        parse_mountinfo(line)


def test_cgroup() -> None:
    found = parse_cgroup(b"9:name=systemd:/a:b\n3:cpu,cpuacct:/\n0::/x (deleted)\n")
    assert found[0] == Cgroup(9, ("name=systemd",), "/a:b")
    assert found[1].controllers == ("cpu", "cpuacct")
    assert found[2].v2
    assert found[2].deleted
    with pytest.raises(ProcfsError):
        parse_cgroup(b"1:cpu\n")


def test_namespaces() -> None:
    with ProcDir(os.getpid()) as proc:
        mine = Namespaces(dict(parse_ns_link(proc.readlink(f"ns/{kind}")) for kind in KINDS))
    assert mine["mnt"] == Path("/proc/self/ns/mnt").stat().st_ino
    assert mine.differ(mine) == []
    assert mine.differ(Namespaces({**mine.inos, "net": 1})) == ["net"]
    with pytest.raises(ProcfsError):
        parse_ns_link(b"mnt:[x]")


def test_procfs_errors_have_an_exit_code() -> None:
    error = ProcfsError("maps", b"x" * 1000, "odd")
    assert isinstance(error, ValueError)
    assert isinstance(error, CkptError)
    assert error.exit_code == KernelError.exit_code
    assert len(str(error)) < 400


RAW = b"""  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
    1: 0100007F:0001 0200007F:0007 01 00000000:00000300 00:00000000 00000000     0        0 1234 2
"""


def test_raw_sockets() -> None:
    assert parse_raw_sockets(RAW) == {1234: RawSocket(1, "127.0.0.2", 7, 0x300)}
    six = RAW.replace(b"0200007F:0007", b"00000000000000000000000001000000:0000")
    assert parse_raw_sockets(six)[1234] == RawSocket(1, "::1", 0, 0x300)
    assert parse_raw_sockets(RAW.splitlines()[0]) == {}


@pytest.mark.parametrize("line", [b" 1: 0100007F:0001\n", b" 1: a b c d\n", b"\n"])
def test_broken_lines_of_raw_sockets(line: bytes) -> None:
    with pytest.raises(ValueError):
        parse_raw_sockets(b"head\n" + line)
