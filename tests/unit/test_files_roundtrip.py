"""Descriptors of a real child, dumped, written, read and opened again here."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ckpt._native import lib
from ckpt.errors import RestoreError
from ckpt.files.dumping import External
from tests.support import descriptors as ds

KCMP_FILE = 0
F_GETSIG = 11


def same(lfd: int, other: int) -> bool:
    own = os.getpid()
    return bool(lib.ckpt_kcmp(own, own, KCMP_FILE, lfd, other) == 0)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


OPENINGS = {
    "read": "os.open(F, os.O_RDONLY)",
    "read-write": "os.open(F, os.O_RDWR)",
    "log": "os.open(F, os.O_WRONLY | os.O_APPEND)",
    "directory": "os.open(D, os.O_RDONLY | os.O_DIRECTORY)",
    "path": "os.open(F, os.O_PATH)",
    "path of a directory": "os.open(D, os.O_PATH | os.O_DIRECTORY)",
    "path of a link": "os.open(L, os.O_PATH | os.O_NOFOLLOW)",
    "path of a fifo": "os.open(P, os.O_PATH)",
    "nonblocking": "os.open(F, os.O_RDWR | os.O_NONBLOCK)",
    "synchronous": "os.open(F, os.O_RDWR | os.O_SYNC)",
    "no access time": "os.open(F, os.O_RDONLY | os.O_NOATIME)",
    "null": "os.open('/dev/null', os.O_RDWR)",
    "zero": "os.open('/dev/zero', os.O_RDONLY)",
    "full": "os.open('/dev/full', os.O_WRONLY)",
    "random": "os.open('/dev/urandom', os.O_RDONLY)",
    "kernel file": "os.open('/proc/meminfo', os.O_RDONLY)",
    "kept over exec": "os.dup2(os.open(F, os.O_RDWR), 77, inheritable=True)",
}


@pytest.mark.parametrize("opening", OPENINGS.values(), ids=OPENINGS.keys())
def test_what_is_opened_by_path_comes_back(opening: str, tmp_path: Path, images: Path) -> None:
    file = tmp_path / "a file"
    file.write_bytes(b"0123456789" * 100)
    (tmp_path / "link").symlink_to(file)
    os.mkfifo(tmp_path / "fifo")
    code = (
        f"F, D, L, P = {str(file)!r}, {str(tmp_path)!r}, {str(tmp_path / 'link')!r}, "
        f"{str(tmp_path / 'fifo')!r}\nfd = {opening}\n"
        "if not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH and os.path.isfile(F):\n"
        "    try: os.lseek(fd, 7, os.SEEK_SET)\n"
        "    except OSError: pass\n"
        "stand(fd)"
    )
    with ds.Stander(code) as child:
        fd = child.said[0][1]
        saved = ds.save(child, images)
        with ds.restored(saved, inherit=child.outside) as files:
            lfd = ds.by_number(files, child.pid)[fd]
            there, here = Path(f"/proc/{child.pid}/fd/{fd}").stat(), os.fstat(lfd)
            assert (here.st_dev, here.st_ino, here.st_mode) == (
                *(there.st_dev, there.st_ino, there.st_mode),
            )
            shown = ds.flags(child.pid, fd)
            assert ds.flags("self", lfd) | os.O_CLOEXEC == shown | os.O_CLOEXEC
            assert ds.position("self", lfd) == ds.position(child.pid, fd)
            placed = {p.fd: p.cloexec for p in files.placements(child.pid)}
            assert placed[fd] == bool(shown & os.O_CLOEXEC)


def test_dup_is_shared_and_reopening_is_not(tmp_path: Path, images: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    code = (
        f"a = os.open({str(file)!r}, os.O_RDONLY)\nb = os.dup(a)\n"
        f"c = os.open({str(file)!r}, os.O_RDONLY)\nstand(a, b, c)"
    )
    with ds.Stander(code) as child:
        _, a, b, c = child.said[0]
        saved = ds.save(child, images)
        with ds.restored(saved, inherit=child.outside) as files:
            lfds = ds.by_number(files, child.pid)
            assert lfds[a] == lfds[b]
            assert not same(lfds[a], lfds[c])


def test_fork_shares_descriptions(tmp_path: Path, images: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    code = (
        f"a = os.open({str(file)!r}, os.O_RDONLY)\nr, w = os.pipe()\n"
        "if os.fork() == 0:\n"
        f"    b = os.open({str(file)!r}, os.O_RDONLY)\n"
        "    os.close(r)\n"
        "    os.lseek(a, 4, os.SEEK_SET)\n"
        "    stand(a, b, w)\n"
        "os.read(r, 0)\nstand(a, r, w)"
    )
    with ds.Stander(code, nr_tasks=2) as child:
        saved = ds.save(child, images)
        with ds.restored(saved, inherit=child.outside) as files:
            parent, kid = (ds.by_number(files, pid) for pid in child.pids)
            fork = next(line for line in child.said if line[0] != child.pid)
            _, a, b, w = fork
            assert parent[a] == kid[a] and os.lseek(kid[a], 0, os.SEEK_CUR) == 4
            assert kid[b] != kid[a] and parent[w] == kid[w]


def test_memfd_keeps_contents_seals_and_sharing(images: Path) -> None:
    code = (
        "m = os.memfd_create('a/b (deleted)', os.MFD_ALLOW_SEALING)\nos.write(m, b'z' * 5000)\n"
        "fcntl.fcntl(m, 1033, 2)\nn = os.open(f'/proc/self/fd/{m}', os.O_RDONLY)\n"
        "o = os.memfd_create('o')\nos.ftruncate(o, 1 << 20)\nos.lseek(o, 9, 0)\nstand(m, n, o)"
    )
    with ds.Stander(code) as child:
        _, m, n, o = child.said[0]
        saved = ds.save(child, images)
        with ds.restored(saved, inherit=child.outside) as files:
            lfds = ds.by_number(files, child.pid)
            assert ds.link("self", lfds[m]) == "/memfd:a/b (deleted) (deleted)"
            assert os.pread(lfds[n], 9000, 0) == b"z" * 5000
            assert os.fstat(lfds[m]).st_ino == os.fstat(lfds[n]).st_ino
            assert not same(lfds[m], lfds[n])
            assert [fcntl.fcntl(lfds[fd], fcntl.F_GET_SEALS) for fd in (m, n, o)] == [2, 2, 1]
            assert os.fstat(lfds[o]).st_size == 1 << 20
            for fd in (m, n, o):
                assert ds.position("self", lfds[fd]) == ds.position(child.pid, fd)
                got = ds.flags("self", lfds[fd]) | os.O_CLOEXEC
                assert got == ds.flags(child.pid, fd) | os.O_CLOEXEC


def test_external_file_is_given(tmp_path: Path, images: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_bytes(b"0123456789")
    other.write_bytes(b"abcdefghij")
    code = f"a = os.open({str(file)!r}, os.O_RDWR)\nos.read(a, 3)\nstand(a)"
    with ds.Stander(code) as child:
        fd = child.said[0][1]
        lines = Path(f"/proc/{child.pid}/fdinfo/{fd}").read_text().splitlines()
        mnt_id = int(next(line.split()[1] for line in lines if line.startswith("mnt_id")))
        name = f"file[{mnt_id:x}:{file.stat().st_ino:x}]"
        saved = ds.save(child, images, external=External({name}))
        with (
            pytest.raises(RestoreError, match="--inherit-fd"),
            ds.restored(saved, inherit=child.outside),
        ):
            pass
        with other.open("r+b") as given:
            inherit = {**child.outside, name: given.fileno()}
            with ds.restored(saved, inherit=inherit) as files:
                lfd = ds.by_number(files, child.pid)[fd]
                assert os.read(lfd, 3) == b"def"
                assert given.tell() == 0


def test_inherited_path_is_taken_as_it_is(tmp_path: Path, images: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    with ds.Stander(f"a = os.open({str(file)!r}, os.O_RDONLY)\nstand(a)") as child:
        saved = ds.save(child, images)
        file.unlink()
        with (tmp_path / "new").open("w+b") as given:
            inherit = {**child.outside, str(file)[1:]: given.fileno()}
            with ds.restored(saved, inherit=inherit) as files:
                assert same(ds.by_number(files, child.pid)[child.said[0][1]], given.fileno())


def test_locks_come_back(tmp_path: Path, images: Path) -> None:
    file, other = tmp_path / "file", tmp_path / "other"
    file.write_bytes(b"0123456789")
    code = (
        f"a = os.open({str(file)!r}, os.O_RDWR)\n"
        f"b = os.open({str(other)!r}, os.O_RDWR|os.O_CREAT)\n"
        "fcntl.lockf(a, fcntl.LOCK_EX, 10, 3)\nfcntl.lockf(a, fcntl.LOCK_SH, 0, 100)\n"
        "fcntl.flock(b, fcntl.LOCK_EX)\nd = os.dup(b)\nstand(a, b, d)"
    )
    child = ds.Stander(code)
    refused = ds.save(child, images)
    assert len(refused.refusals) == 3
    assert all("--file-locks" in refusal for refusal in refused.refusals)
    saved = ds.save(child, images, file_locks=True)
    _, a, b, _ = child.said[0]
    kept = {name: os.dup(lfd) for name, lfd in child.outside.items()}
    with pytest.raises(RestoreError, match="--file-locks"), ds.restored(saved, inherit=kept):
        pass
    with ds.restored(saved, inherit=kept, file_locks=True) as files:
        (fd, operation) = files.flocks(child.pid)[0]
        with pytest.raises(BlockingIOError):
            fcntl.flock(ds.by_number(files, child.pid)[fd], operation)
    child.end()
    with ds.restored(saved, inherit=kept, file_locks=True) as files:
        locks = files.locks(child.pid)
        assert [(lock.fd, lock.type, lock.start, lock.length) for lock in locks] == [
            (a, fcntl.F_WRLCK, 3, 10),
            (a, fcntl.F_RDLCK, 100, 0),
        ]
        lfds = ds.by_number(files, child.pid)
        for lock in locks:
            fcntl.fcntl(lfds[lock.fd], fcntl.F_SETLK, lock.packed)
        assert [fd for fd, _ in files.flocks(child.pid)] == [b]
        for fd, operation in files.flocks(child.pid):
            fcntl.flock(lfds[fd], operation)
        held = Path(f"/proc/self/fdinfo/{lfds[a]}").read_text()
        assert "POSIX" in held and " 3 12" in held and "100 EOF" in held
        assert "FLOCK" in Path(f"/proc/self/fdinfo/{lfds[b]}").read_text()
    for lfd in kept.values():
        os.close(lfd)


def _make_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


CHANGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (lambda f: f.unlink(), "No such file"),
    "longer": (lambda f: f.write_bytes(b"x" * 99), "99 bytes"),
    "another mode": (lambda f: f.chmod(0o600), "mode"),
    "a fifo": (_make_fifo, "no file"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_changed_file_fails_the_restore(
    change: tuple[Callable[[Path], object], str], tmp_path: Path, images: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789")
    with ds.Stander(f"a = os.open({str(file)!r}, os.O_RDONLY)\nstand(a)") as child:
        saved = ds.save(child, images)
        do, text = change
        do(file)
        with (
            pytest.raises(RestoreError, match=text) as failed,
            ds.restored(saved, inherit=child.outside),
        ):
            pass
        assert str(file) in str(failed.value)


def test_a_log_may_have_grown(tmp_path: Path, images: Path) -> None:
    file = tmp_path / "file"
    code = f"a = os.open({str(file)!r}, os.O_WRONLY|os.O_APPEND|os.O_CREAT)\nstand(a)"
    with ds.Stander(code) as child:
        saved = ds.save(child, images)
        file.write_bytes(b"rotated")
        with ds.restored(saved, inherit=child.outside) as files:
            os.write(ds.by_number(files, child.pid)[child.said[0][1]], b"!")
    assert file.read_bytes() == b"rotated!"


def test_the_number_of_the_signal_comes_back(tmp_path: Path, images: Path) -> None:
    code = f"a = os.open({str(tmp_path / 'f')!r}, os.O_RDWR|os.O_CREAT)\nfcntl.fcntl(a, 10, 12)"
    with ds.Stander(f"{code}\nstand(a)") as child:
        saved = ds.save(child, images)
        with ds.restored(saved, inherit=child.outside) as files:
            assert fcntl.fcntl(ds.by_number(files, child.pid)[child.said[0][1]], F_GETSIG) == 12


def test_a_process_outside_is_found_if_it_is_the_same(images: Path) -> None:
    other, another = (subprocess.Popen(["sleep", "100"]) for _ in "ab")
    name = f"pidfd[{other.pid}]"
    pidfd = os.pidfd_open(another.pid)
    try:
        with ds.Stander(f"stand(os.pidfd_open({other.pid}))") as child:
            fd = child.said[0][1]
            saved = ds.save(child, images, external=External({name}))
            with ds.restored(saved, inherit=child.outside) as files:
                same_process = Path(f"/proc/{child.pid}/fd/{fd}").stat().st_ino
                assert os.fstat(ds.by_number(files, child.pid)[fd]).st_ino == same_process
            other.kill()
            other.wait()
            with (
                pytest.raises(RestoreError, match="not there any more"),
                ds.restored(saved, inherit=child.outside),
            ):
                pass
            with ds.restored(saved, inherit={**child.outside, name: pidfd}) as files:
                assert same(ds.by_number(files, child.pid)[fd], pidfd)
    finally:
        os.close(pidfd)
        for process in (other, another):
            process.kill()
            process.wait()


def test_nothing_stays_open(images: Path) -> None:
    code = "r, w = os.pipe()\nm = os.memfd_create('m')\nos.write(w, b'1')\nstand(r, w, m)"
    with ds.Stander(code) as child:
        before = len(os.listdir("/proc/self/fd"))
        saved = ds.save(child, images)
        assert len(os.listdir("/proc/self/fd")) == before
        with ds.restored(saved, inherit=child.outside):
            pass
        assert len(os.listdir("/proc/self/fd")) == before
