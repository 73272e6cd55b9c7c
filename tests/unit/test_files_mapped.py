"""Files behind mappings, the executable and directories; terminals."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from pathlib import Path

import pytest

from ckpt.errors import RestoreError
from ckpt.files import FileOptions, FilesDump, FilesRestore, RestoreFileOptions
from ckpt.files.dumping import External
from ckpt.files.memfd import extents
from ckpt.images.reader import ImageSet
from ckpt.procfs.maps import Mapping, parse_maps
from tests.support import descriptors as ds


def maps_of(pid: int) -> list[Mapping]:
    return parse_maps(Path(f"/proc/{pid}/maps").read_bytes())


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def test_mapped_files_get_one_entry_each(tmp_path: Path, images: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"x" * 8192)
    code = (
        f"f = os.open({str(file)!r}, os.O_RDWR)\n"
        "a = mmap.mmap(f, 8192, mmap.MAP_SHARED, mmap.PROT_READ)\n"
        "b = mmap.mmap(f, 4096, mmap.MAP_PRIVATE)\nos.close(f)\n"
        f"g = os.open({str(file)!r}, os.O_RDONLY)\n"
        "c = mmap.mmap(g, 4096, mmap.MAP_SHARED, mmap.PROT_READ)\nos.close(g)\n"
        f"os.chdir({str(tmp_path)!r})\nstand()"
    )
    with ds.Stander(code) as child, FilesDump(FileOptions()) as files:
        maps = maps_of(child.pid)
        assert not files.mapping_refusals(child.pid, maps)
        found = {m: files.file_for_mapping(child.pid, m) for m in maps if m.has_file}
        ours = {m: f for m, f in found.items() if m.path == str(file)}
        assert len({f.id for f in ours.values()}) == 1
        assert sorted((m.perms[3], f.flags) for m, f in ours.items()) == [
            ("p", os.O_RDONLY),
            ("s", os.O_RDONLY),
            ("s", os.O_RDWR),
        ]
        exe, cwd, root = (
            files.file_for_path_link(child.pid, name) for name in ("exe", "cwd", "root")
        )
        assert not files.refusals
        ds.write_set(images, files.images())
        with ImageSet(images) as saved, FilesRestore(saved, RestoreFileOptions(), {}) as again:
            shared = again.mapping_lfd(next(iter(ours.values())).id, os.O_RDWR)
            assert os.fstat(shared).st_ino == file.stat().st_ino
            assert fcntl.fcntl(shared, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
            assert again.mapping_lfd(next(iter(ours.values())).id, os.O_RDWR) == shared
            there = Path(f"/proc/{child.pid}/exe").stat()
            assert os.path.samestat(os.fstat(again.mapping_lfd(exe, os.O_RDONLY)), there)
            assert Path(again.path(exe)).samefile(f"/proc/{child.pid}/exe")
            assert os.fstat(again.directory_lfd(cwd)).st_ino == tmp_path.stat().st_ino
            assert os.fstat(again.directory_lfd(root)).st_ino == Path("/").stat().st_ino


def test_memfd_that_is_only_mapped(images: Path) -> None:
    code = (
        "m = os.memfd_create('only', os.MFD_ALLOW_SEALING)\nos.ftruncate(m, 1 << 20)\n"
        "a = mmap.mmap(m, 1 << 20)\na[8192:8194] = b'hi'\nfcntl.fcntl(m, 1033, 0x12)\n"
        "os.close(m)\nstand()"
    )
    with ds.Stander(code) as child, FilesDump(FileOptions()) as files:
        (mapping,) = (m for m in maps_of(child.pid) if m.path.startswith("/memfd:only"))
        mapped = files.file_for_mapping(child.pid, mapping)
        assert mapped.memfd and mapped.flags == os.O_RDWR
        files.resolve()
        (contents,) = files.memfd_contents
        assert (contents.shmid, contents.size) == (mapping.ino, 1 << 20)
        assert [(r.start, r.end) for r in extents(contents.lfd, contents.size)] == [(8192, 12288)]
        ds.write_set(images, files.images())
        with ImageSet(images) as saved, FilesRestore(saved, RestoreFileOptions(), {}) as again:
            (made,) = again.memfd_contents
            assert made.shmid == mapping.ino and os.fstat(made.lfd).st_size == 1 << 20
            lfd = again.mapping_lfd(mapped.id, os.O_RDWR)
            assert os.fstat(lfd).st_ino == os.fstat(made.lfd).st_ino
            again.apply_seals()
            assert fcntl.fcntl(lfd, fcntl.F_GET_SEALS) == 0x12


def test_a_shell_s_terminal_is_exchanged_for_ours(
    images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master, slave = os.openpty()
    other_master, other_slave = os.openpty()
    settings = termios.tcgetattr(slave)
    settings[3] &= ~termios.ECHO
    settings[6][termios.VMIN] = 9
    termios.tcsetattr(slave, termios.TCSANOW, settings)
    fcntl.ioctl(other_slave, termios.TIOCSWINSZ, struct.pack("4H", 11, 22, 0, 0))
    code = (
        "again = os.open('/proc/self/fd/0', os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)\n"
        "stand(again)"
    )
    with ds.Stander(code, stdin=slave, stdout=slave) as child:
        refused = ds.save(child, images)
        assert len(refused.refusals) == 3
        assert all("--shell-job" in line for line in refused.refusals)
        saved = ds.save(child, images, shell_job=True)
        inherit = child.outside
        with (
            pytest.raises(RestoreError, match="--shell-job"),
            ds.restored(saved, inherit=inherit),
        ):
            pass
        monkeypatch.setattr(os, "isatty", lambda lfd: lfd == 0)
        before = os.dup(0)
        os.dup2(other_slave, 0)
        try:
            with ds.restored(saved, inherit=inherit, shell_job=True) as files:
                lfds = ds.by_number(files, child.pid)
                again = child.said[0][1]
                assert lfds[0] == lfds[1] != lfds[again]
                assert os.fstat(lfds[0]).st_rdev == os.fstat(other_slave).st_rdev
                for fd in (0, again):
                    got = ds.flags("self", lfds[fd]) | os.O_CLOEXEC
                    assert got == ds.flags(child.pid, fd) | os.O_CLOEXEC
                now = termios.tcgetattr(lfds[0])
                assert now == termios.tcgetattr(slave) and not now[3] & termios.ECHO
                size = fcntl.ioctl(lfds[0], termios.TIOCGWINSZ, b"\0" * 8)
                assert struct.unpack("4H", size)[:2] == (11, 22)
        finally:
            os.dup2(before, 0)
            os.close(before)
    for lfd in (master, slave, other_master, other_slave):
        os.close(lfd)


def test_an_external_terminal_is_given(images: Path) -> None:
    master, slave = os.openpty()
    other_master, other_slave = os.openpty()
    with ds.Stander("stand()", stdin=slave) as child:
        seen = Path(f"/proc/{child.pid}/fd/0").stat()
        name = f"tty[{seen.st_rdev:x}:{seen.st_dev:x}]"
        saved = ds.save(child, images, external=External({name}))
        inherit = child.outside
        with pytest.raises(RestoreError, match="--inherit-fd"), ds.restored(saved, inherit=inherit):
            pass
        with ds.restored(saved, inherit={**inherit, name: other_slave}) as files:
            lfd = ds.by_number(files, child.pid)[0]
            assert os.fstat(lfd).st_rdev == os.fstat(other_slave).st_rdev
    for lfd in (master, slave, other_master, other_slave):
        os.close(lfd)


def test_a_mapping_that_is_gone_meanwhile_is_no_obstacle() -> None:
    with ds.Stander("stand()") as child, FilesDump(FileOptions()) as files:
        known = next(m for m in maps_of(child.pid) if m.has_file)
        grown = known._replace(end=known.end + (1 << 40))
        assert not files.mapping_refusals(child.pid, [grown])


def test_what_is_mapped_there_by_now_is_not_taken_for_it(tmp_path: Path) -> None:
    """The file of a mapping that a running task replaces is no obstacle, nor remembered."""
    removed = tmp_path / "removed"
    code = (
        f"f = os.open({str(removed)!r}, os.O_RDWR | os.O_CREAT)\nos.ftruncate(f, 8192)\n"
        "os.pwrite(f, b'x' * 8192, 0)\na = mmap.mmap(f, 8192)\nb = mmap.mmap(f, 4096)\n"
        f"os.unlink({str(removed)!r})\nos.close(f)\n"
        "m = os.memfd_create('only')\nos.ftruncate(m, 4096)\nc = mmap.mmap(m, 4096)\nstand()"
    )
    with ds.Stander(code) as child, FilesDump(FileOptions(ghost_limit=0)) as files:
        maps = maps_of(child.pid)
        (memfd,) = (m for m in maps if m.path.startswith("/memfd:only"))
        ghosts = [m for m in maps if m.path == f"{removed} (deleted)"]
        assert "--ghost-limit" in str(files.mapping_refusals(child.pid, ghosts[:1]))
        # As of before it was there: the other file's addresses, and what was known of them.
        before = memfd._replace(start=ghosts[0].start, end=ghosts[0].end)
        assert not files.mapping_refusals(child.pid, [before])
        assert files.file_for_mapping(child.pid, memfd).memfd
        assert not files.refusals
