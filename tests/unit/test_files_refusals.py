"""What is not restored yet is refused by name: one line for each."""

from __future__ import annotations

import os
import resource
import stat
from pathlib import Path
from typing import Any

import pytest

from ckpt.files import FileOptions, FilesDump
from ckpt.files.descriptor import Descriptor, look_at_all
from ckpt.files.dumping import DumpView, External
from ckpt.files.kind import Obstacle
from ckpt.files.refused import path_obstacle, unclaimed_obstacle
from ckpt.files.tty import TtyDump
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir
from tests.requirements import require
from tests.support import descriptors as ds

SYSCALL = "import ctypes; call = ctypes.CDLL(None, use_errno=True).syscall\n"

REFUSED = {
    "mptcp": ("socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262).detach()", "an MPTCP socket"),
    "corked": (
        "(s := socket.socket(type=socket.SOCK_DGRAM), s.connect(('127.0.0.1', 9)), "
        "s.send(b'x', socket.MSG_MORE), s.detach())[3]",
        "datagrams that are not sent",
    ),
    "not accepted": (
        "(s := socket.create_server(('127.0.0.1', 0)), "
        "g := socket.create_connection(s.getsockname()), s.detach())[2]",
        "1 connections wait for accept(2)",
    ),
    "unix with a peer outside": (
        "(pair := socket.socketpair())[0].fileno(); "
        "os.fork() or (pair[0].close(), os.read(HOLD, 1), os._exit(0)); pair[1].close()",
        "is outside the tree",
    ),
    "unix with an option": (
        "(s := socket.socket(socket.AF_UNIX)).fileno(); s.setsockopt(socket.SOL_SOCKET, 42, 5)",
        "SO_PEEK_OFF",
    ),
    "unix with a filter": (
        "(s := socket.socket(socket.AF_UNIX)).fileno(); "
        "b = ctypes.create_string_buffer(struct.pack('HBBI', 6, 0, 0, 9)); "
        "s.setsockopt(socket.SOL_SOCKET, 26, struct.pack('HxxxxxxQ', 1, ctypes.addressof(b)))",
        "packet filter",
    ),
    "unix whose name leads elsewhere": (
        "(s := socket.socket(socket.AF_UNIX)).fileno(); os.mkdir(F); os.chdir(F); "
        "s.bind('../socket')",
        "does not lead to",
    ),
    "epoll in flight": (
        "(pair := socket.socketpair())[1].fileno(); e = __import__('select').epoll(); "
        "socket.send_fds(pair[0], [b'x'], [e.fileno()]); e.close()",
        "anon_inode:[eventpoll] is in flight to it (SCM_RIGHTS): nobody else has it open",
    ),
    "a lock in flight": (
        "(pair := socket.socketpair())[1].fileno(); f = os.open(F, os.O_RDWR | os.O_CREAT); "
        "fcntl.flock(f, fcntl.LOCK_EX); socket.send_fds(pair[0], [b'x'], [f]); os.close(f)",
        "it has a lock or an owner, and nobody else has it open",
    ),
    "a namespace in flight": (
        "(pair := socket.socketpair())[1].fileno(); f = os.open('/proc/self/ns/net', 0); "
        "socket.send_fds(pair[0], [b'x'], [f]); os.close(f)",
        "in flight to it (SCM_RIGHTS): a network namespace",
    ),
    "netlink of a protocol": (
        "(s := socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 9)).fileno(); s.bind((0, 0))",
        "an audit socket (netlink) that has been used",
    ),
    "netlink with an answer": (
        "(s := socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)).fileno(); "
        "s.send(struct.pack('=IHHIIB3x', 20, 18, 0x301, 1, 0, 0))",
        "messages that were not read yet",
    ),
    "netlink that owns a table": (
        "(s := socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)).fileno(); s.bind((0, 0)); "
        "n = b'ckpt-test-%d\\0' % os.getpid(); a = struct.pack('=HH', 4 + len(n), 1) + n; "
        "a += b'\\0' * (-len(a) % 4) + struct.pack('=HH', 8, 2) + b'\\0\\0\\0\\2'; "
        "b = lambda k, d, f: struct.pack('=IHHII', 20 + len(d), k, f, 0, 0) + "
        "(b'\\1\\0\\0\\0' if d else b'\\0\\0\\0\\x0a') + d; "
        "s.send(b(16, b'', 1) + b(0xa00, a, 0x605) + b(17, b'', 1)); s.recv(4096)",
        "owns a table of nftables",
    ),
    "packet with a ring to send from": (
        "(s := socket.socket(socket.AF_PACKET, socket.SOCK_RAW)).fileno(); "
        "s.setsockopt(263, 13, struct.pack('4I', 4096, 1, 2048, 2))",
        "a packet socket with a ring for sending",
    ),
    "packet with large blocks": (
        "(s := socket.socket(socket.AF_PACKET, socket.SOCK_RAW)).fileno(); "
        "s.setsockopt(263, 10, 2); s.setsockopt(263, 5, struct.pack("
        "'7I', 64 << 20, 1, 65536, 1024, 0, 0, 0))",
        "blocks over 32 MiB",
    ),
    "packet in a group by a program": (
        "(s := socket.socket(socket.AF_PACKET, socket.SOCK_RAW)).fileno(); "
        "s.bind(('lo', 0x806)); s.setsockopt(263, 18, os.getpid() & 0xffff | 6 << 16)",
        "chooses by a program",
    ),
    "pidfd of a stranger": ("os.pidfd_open(1)", "a pidfd of process 1, which is outside the tree"),
    "userfaultfd": ("call(323, 1)", "a userfaultfd"),
    "io_uring": (
        "call(425, 4, ctypes.create_string_buffer(struct.pack('3I', 0, 0, 2), 120))",
        "an io_uring that a thread of the kernel polls",
    ),
    "io_uring, disabled": (
        "call(425, 4, ctypes.create_string_buffer(struct.pack('3I', 0, 0, 64), 120))",
        "a disabled or restricted io_uring",
    ),
    "io_uring with a ring of buffers": (
        "call(425, 4, ctypes.create_string_buffer(120)); "
        "call(427, fd, 22, struct.pack('QIHH24x', 0, 8, 3, 1), 1)",
        "an io_uring with provided buffers",
    ),
    "bpf map": (
        "call(321, 0, struct.pack('IIII', 2, 4, 4, 1).ljust(120, b'\\0'), 120)",
        "a BPF map",
    ),
    "perf event": (
        "call(298, struct.pack('IIQ', 1, 112, 0).ljust(112, b'\\0'), 0, -1, -1, 0)",
        "a perf event",
    ),
    "namespace": ("os.open('/proc/self/ns/net', os.O_RDONLY)", "a network namespace"),
    "kernel log": ("os.open('/dev/kmsg', os.O_RDONLY)", "the kernel's log (1:11)"),
    "deleted, large": (
        "os.open(F, os.O_RDWR | os.O_CREAT); os.write(fd, b'x' * (1 << 20) + b'y'); os.unlink(F)",
        "it was removed, and has 1048577 bytes, more than the 1048576 of --ghost-limit",
    ),
    "deleted socket": (
        "(s := socket.socket(socket.AF_UNIX), s.bind(F), os.open(F, os.O_PATH), os.unlink(F))[2]",
        "it was removed, and is no file, directory, FIFO or plain device",
    ),
    "renamed over": (
        "os.open(F, os.O_CREAT); os.link(F, F + 'x'); open(F + 'y', 'w'); os.rename(F + 'y', F)",
        "it was removed, but has other names (--link-remap",
    ),
    "own descriptor": (
        "os.open('/proc/self/fdinfo/0', os.O_RDONLY)",
        "it tells of a descriptor",
    ),
    "status of a stranger": (
        "os.open('/proc/1/status', os.O_RDONLY)",
        "a /proc file of process 1, which is outside the tree",
    ),
    "signals to others": (
        "os.open(F, os.O_RDWR|os.O_CREAT); fcntl.fcntl(fd, fcntl.F_SETOWN, 1)",
        "it sends signals to process 1, which is outside the tree",
    ),
    "signals to others' groups": (
        "os.open(F, os.O_RDWR|os.O_CREAT); os.setsid(); "
        "fcntl.fcntl(fd, fcntl.F_SETOWN, -os.getpgid(os.getppid()))",
        "it sends signals to process group",
    ),
    "dnotify": (
        "os.open(D, os.O_RDONLY); fcntl.fcntl(fd, fcntl.F_NOTIFY, fcntl.DN_CREATE)",
        "it has an owner, as a directory that is watched by F_NOTIFY has",
    ),
    "epoll of what is gone": (
        "(keep := __import__('select').epoll()).fileno(); r, w = os.pipe(); keep.register(r); "
        "os.fork() or (os.read(HOLD, 1), os._exit(0)); os.close(r)",
        "which nobody in the tree has open",
    ),
    "record lock": (
        "os.open(F, os.O_RDWR|os.O_CREAT); fcntl.lockf(fd, fcntl.LOCK_EX)",
        "it holds a file lock (POSIX) (--file-locks)",
    ),
    "description lock": (
        "os.open(F, os.O_RDWR|os.O_CREAT); "
        "fcntl.fcntl(fd, 37, struct.pack('hh4xqqi4x', fcntl.F_WRLCK, 0, 0, 0, 0))",
        "it holds a file lock (OFDLCK) (--file-locks)",
    ),
    "lease": (
        "os.open(F, os.O_RDONLY|os.O_CREAT); fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)",
        "it holds a file lock (LEASE) (--file-locks)",
    ),
    "a lease that somebody wants": (
        "os.open(F, os.O_RDONLY|os.O_CREAT); fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK); "
        "__import__('signal').signal(29, 1); call(2, F.encode(), os.O_WRONLY | os.O_NONBLOCK)",
        "it holds a lease that is being broken",
    ),
    "directory of a dead process": (
        "(p := os.fork() or os._exit(0), os.open(f'/proc/{p}', os.O_RDONLY), os.waitpid(p, 0))[1]",
        "its path leads to it no more",
    ),
    "not UTF-8": ("os.open(os.fsencode(F) + b'\\xff', os.O_CREAT)", "its path is not UTF-8"),
    "path of a socket": (
        "(socket.socket(socket.AF_UNIX), os.open('/dev', os.O_PATH), "
        "os.open(f'/proc/self/fd/{socket.socketpair()[0].detach()}', os.O_PATH))[2]",
        "something without a path",
    ),
}


@pytest.mark.parametrize(("opening", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_refused_by_name(opening: str, text: str, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    code = (
        f"{SYSCALL}F, D = {str(tmp_path / 'file')!r}, {str(tmp_path)!r}\n"
        "wrong = 0\n"
        f"try: fd = {opening}\n"
        "except OSError as error: fd, wrong = -1, error.errno\n"
        "stand(fd, wrong or ctypes.get_errno())"
    )
    with ds.Stander(code) as child:
        _, fd, errno = child.said[0]
        require(fd >= 0, f"the kernel refuses it: {os.strerror(errno)}")
        saved = ds.save(child, images)
        assert any(
            f"pid {child.pid}: descriptor {fd} (" in line and text in line
            for line in saved.refusals
        ), saved.refusals
        assert not list(images.iterdir())


RARE = {
    "disk": (stat.S_IFBLK, "/dev/sda", 0x800, "a block device"),
    "sound": (stat.S_IFCHR, "/dev/snd/seq", 0x7401, "a sound device (116:1)"),
    "unknown device": (stat.S_IFCHR, "/dev/x", 0xC805, "a device (200:5)"),
    "secret memory": (stat.S_IFREG, "/secretmem (deleted)", 0, "secret memory"),
    "System V": (stat.S_IFREG, "/SYSV0001 (deleted)", 0, "a System V shared memory segment"),
    "unknown inode": (0, "anon_inode:[novel]", 0, "[novel] is not"),
    "pidfs": (stat.S_IFREG, "pidfd:[12]", 0, "a pidfd"),
    "other root": (stat.S_IFREG, "(unreachable)/x", 0, "outside of the root directory"),
    "nothing known": (stat.S_IFIFO, "???", 0, "type 0010000"),
}


@pytest.mark.parametrize(("mode", "link", "rdev", "text"), RARE.values(), ids=RARE.keys())
def test_what_tests_can_seldom_open(mode: int, link: str, rdev: int, text: str) -> None:
    at = {"pid": 7, "fd": 3, "link": link, "mode": mode, "dev": 1, "ino": 2, "rdev": rdev}
    nothing: dict[str, Any] = dict.fromkeys(Descriptor._fields, 0) | {"info": b""}
    d = Descriptor(**{**nothing, **at})
    obstacle = path_obstacle(d) if mode == stat.S_IFREG else unclaimed_obstacle(d)
    assert obstacle is not None and text in obstacle.why and obstacle.hint


def test_preflight_says_the_same_without_duplicates(tmp_path: Path) -> None:
    code = (
        "s = socket.socket(socket.AF_NETLINK, 3, 9)\ns.bind((0, 0))\ne = os.open('/dev/kmsg', 0)\n"
        f"f = os.open({str(tmp_path / 'f')!r}, os.O_RDWR|os.O_CREAT)\n"
        "fcntl.flock(f, fcntl.LOCK_EX)\n"
        "stand(s.fileno(), e, f)"
    )
    with ds.Stander(code) as child, FilesDump(FileOptions()) as files:
        numbers = {
            int(refusal.resource.split()[1]): refusal.why for refusal in files.preflight(child.pid)
        }
        assert set(numbers) == set(child.said[0][1:])


def test_preflight_forgets_what_was_closed_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a running task: what is refused may be gone, or another thing, when it is judged."""
    gone, replaced, there = (os.open("/dev/kmsg", os.O_RDONLY) for _ in range(3))

    def judge(d: Descriptor) -> Obstacle:
        found = unclaimed_obstacle(d)
        if d.fd == gone:
            os.close(gone)
        if d.fd == replaced:
            with open("/dev/null") as null:  # noqa: PTH123
                os.dup2(null.fileno(), replaced)
        return found

    monkeypatch.setattr("ckpt.files.dump.unclaimed_obstacle", judge)
    with FilesDump(FileOptions()) as files:
        named = {refusal.resource.split()[1] for refusal in files.preflight(os.getpid())}
    os.close(replaced)
    os.close(there)
    assert str(there) in named and not {str(gone), str(replaced)} & named


@pytest.mark.parametrize("device", [(4, 1), (4, 64), (5, 1), (204, 64), (188, 0)])
def test_consoles_and_serial_lines_without_a_path(device: tuple[int, int]) -> None:
    with ds.Stander("stand()") as child, ProcDir(child.pid) as proc:
        seen = look_at_all(proc, None)[0]
    gone = seen._replace(mode=stat.S_IFCHR | 0o620, rdev=os.makedev(*device), link="/dev/x", dev=5)
    d = gone._replace(named=False)
    kind = TtyDump(DumpView(FileOptions()))
    assert kind.claims(d) and kind.obstacle(d._replace(named=True)) is None
    obstacle = kind.obstacle(d)
    assert obstacle is not None and "a console or serial line without a path" in obstacle.why
    assert f"--external 'tty[{d.rdev:x}:5]'" in obstacle.hint
    external = FileOptions(external=External({f"tty[{d.rdev:x}:5]"}))
    assert TtyDump(DumpView(external)).obstacle(d) is None


def test_a_session_with_its_terminal_is_refused() -> None:
    master, slave = os.openpty()
    code = (
        f"os.setsid()\nos.open({ds.link('self', slave)!r}, os.O_RDWR)\n"
        "import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\nstand()"
    )
    with ds.Stander(code) as child, FilesDump(FileOptions(shell_job=True)) as files:
        assert not files.preflight(child.pid)
        (refusal,) = files.preflight_together()
        assert refusal.resource == f"session {child.pid}" and "terminal" in refusal.why
    os.close(master)
    os.close(slave)


def test_all_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    with ds.Stander("a = [os.open('/dev/kmsg', 0) for _ in range(5)]\nstand(*a)") as child:
        images = tmp_path / "images"
        images.mkdir()
        assert len(ds.save(child, images).refusals) == 5


def test_large_deleted_mappings_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mapped"
    code = (
        f"f = open({str(file)!r}, 'w+b')\nf.write(b'x' * 4096)\nf.flush()\n"
        f"m = mmap.mmap(f.fileno(), 4096)\nf.close()\nos.unlink({str(file)!r})\nstand()"
    )
    with ds.Stander(code) as child, FilesDump(FileOptions(ghost_limit=4095)) as files:
        maps = parse_maps(Path(f"/proc/{child.pid}/maps").read_bytes())
        (refusal,) = files.mapping_refusals(child.pid, maps)
        assert str(file) in refusal.resource and "--ghost-limit 4096" in refusal.hint
        wanted = next(m for m in maps if str(file) in m.path)
        assert files.file_for_mapping(child.pid, wanted).id == 0
        assert files.file_for_path_link(child.pid, "exe") > 0
        assert len(files.refusals) == 1


def test_a_table_of_thousands_is_quick(tmp_path: Path) -> None:
    many = 2000
    code = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, (4000, {resource.getrlimit(7)[1]}))\n"
        f"f = os.open({str(tmp_path / 'f')!r}, os.O_RDWR|os.O_CREAT)\n"
        f"a = [os.dup(f) for _ in range({many})]\nstand(f)"
    )
    with ds.Stander(code) as child, FilesDump(FileOptions()) as files:
        pidfd = os.pidfd_open(child.pid)
        files.collect(child.pid, pidfd)
        files.resolve()
        os.close(pidfd)
        ids = {entry.fd: entry.id for entry in files.fdinfo(child.pid)}
        assert len(ids) > many
        assert sum(1 for number in ids.values() if number == ids[child.said[0][1]]) == many + 1


def test_descriptors_tell_what_the_kernel_tells(tmp_path: Path) -> None:
    file = tmp_path / "with\nnewline"
    code = (
        f"f = os.open({str(file)!r}, os.O_RDWR|os.O_CREAT|os.O_APPEND)\n"
        "os.write(f, b'abc')\nstand(f)"
    )
    with ds.Stander(code) as child, ProcDir(child.pid) as proc:
        seen = {d.fd: d for d in look_at_all(proc, None)}
        d = seen[child.said[0][1]]
        there = file.stat()
        assert (d.link, d.named, d.pos, d.size) == (str(file), True, 3, 3)
        assert (d.dev, d.ino, d.mode, d.uid) == (
            *(there.st_dev, there.st_ino, there.st_mode, there.st_uid),
        )
        assert d.flags & os.O_APPEND and d.cloexec and d.accmode == os.O_RDWR
        assert set(seen) == {int(n) for n in os.listdir(f"/proc/{child.pid}/fd")}
