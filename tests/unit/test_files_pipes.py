"""Pipes and FIFOs of a real child, dumped, written, read and opened again here."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from ckpt.errors import RestoreError
from ckpt.files import FilesRestore, RestoreFileOptions
from ckpt.images.reader import ImageSet
from tests.requirements import require
from tests.support import descriptors as ds


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def test_pipe_keeps_its_data_size_and_flags(images: Path) -> None:
    code = (
        "r, w = os.pipe2(os.O_NONBLOCK)\nfcntl.fcntl(w, fcntl.F_SETPIPE_SZ, 8192)\n"
        "os.write(w, b'x' * 5000)\nos.write(w, b'y' * 100)\nos.set_blocking(w, True)\nstand(r, w)"
    )
    with ds.Stander(code) as child:
        _, r, w = child.said[0]
        saved = ds.save(child, images)
        with ds.restored(saved, inherit=child.outside) as files:
            lfds = ds.by_number(files, child.pid)
            assert fcntl.fcntl(lfds[r], fcntl.F_GETPIPE_SZ) == 8192
            assert os.read(lfds[r], 9000) == b"x" * 5000 + b"y" * 100
            os.write(lfds[w], b"more")
            assert os.read(lfds[r], 9000) == b"more"
            for fd in (r, w):
                got = ds.flags("self", lfds[fd]) | os.O_CLOEXEC
                assert got == ds.flags(child.pid, fd) | os.O_CLOEXEC


def test_looking_leaves_the_data_in_the_pipe(images: Path) -> None:
    with ds.Stander("r, w = os.pipe()\nos.write(w, b'data')\nstand(r, w)") as child:
        ds.save(child, images)
        again = images.parent / "again"
        again.mkdir()
        saved = ds.save(child, again)
        with ds.restored(saved, inherit=child.outside) as files:
            assert os.read(ds.by_number(files, child.pid)[child.said[0][1]], 10) == b"data"


def test_pipe_opened_again_and_read_write(images: Path) -> None:
    code = (
        "r, w = os.pipe()\nos.write(w, b'abc')\n"
        "again = os.open(f'/proc/self/fd/{r}', os.O_RDONLY | os.O_NONBLOCK)\n"
        "both = os.open(f'/proc/self/fd/{r}', os.O_RDWR)\nstand(r, w, again, both)"
    )
    with ds.Stander(code) as child:
        _, r, w, again, both = child.said[0]
        saved = ds.save(child, images)
        with ds.restored(saved, inherit=child.outside) as files:
            lfds = ds.by_number(files, child.pid)
            assert len({lfds[fd] for fd in (r, w, again, both)}) == 4
            assert {os.fstat(lfds[fd]).st_ino for fd in (r, w, again, both)} == {
                os.fstat(lfds[r]).st_ino
            }
            assert os.read(lfds[again], 3) == b"abc"
            for fd in (r, w, again, both):
                got = ds.flags("self", lfds[fd]) | os.O_CLOEXEC
                assert got == ds.flags(child.pid, fd) | os.O_CLOEXEC


def test_pipe_without_the_other_end_stays_broken(images: Path) -> None:
    code = (
        "r, w = os.pipe()\nr2, w2 = os.pipe()\nos.write(w2, b'rest')\nos.close(r)\nos.close(w2)\n"
        "stand(w, r2)"
    )
    with ds.Stander(code) as child:
        _, w, r2 = child.said[0]
        saved = ds.save(child, images)
        with ds.restored(saved, inherit=child.outside) as files:
            lfds = ds.by_number(files, child.pid)
            assert os.read(lfds[r2], 10) == b"rest" and os.read(lfds[r2], 10) == b""
            with pytest.raises(BrokenPipeError):
                os.write(lfds[w], b"x")


def test_pipe_to_the_outside_must_be_given(images: Path) -> None:
    r, w = os.pipe()
    with ds.Stander("stand()", stdout=w) as child:
        os.write(w, b"in flight")
        saved = ds.save(child, images)
        given = child.outside
        with (
            pytest.raises(RestoreError, match=r"--inherit-fd 'fd\[N\]:pipe:\[") as failed,
            ds.restored(saved, inherit=given),
        ):
            pass
        assert failed.value.resource == ds.link(child.pid, 1)
        other_r, other_w = os.pipe()
        with ds.restored(saved, inherit={**given, failed.value.resource: other_w}) as files:
            os.write(ds.by_number(files, child.pid)[1], b"hello")
            assert os.read(other_r, 100) == b"hello"
        assert os.read(r, 100) == b"in flight"
        for lfd in (r, w, other_r, other_w):
            os.close(lfd)


@pytest.mark.parametrize("mode", ["os.O_RDWR", "os.O_RDONLY | os.O_NONBLOCK"])
def test_fifo_keeps_its_data(mode: str, tmp_path: Path, images: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code = (
        f"a = os.open({str(fifo)!r}, {mode})\nb = os.open({str(fifo)!r}, os.O_WRONLY)\n"
        "os.write(b, b'queued')\nstand(a, b)"
    )
    child = ds.Stander(code)
    _, a, b = child.said[0]
    shown = [ds.flags(child.pid, fd) | os.O_CLOEXEC for fd in (a, b)]
    given = child.outside
    saved = ds.save(child, images)
    kept = {name: os.dup(lfd) for name, lfd in given.items()}
    child.end()
    with ds.restored(saved, inherit=kept) as files:
        lfds = ds.by_number(files, child.pid)
        assert [ds.flags("self", lfds[fd]) | os.O_CLOEXEC for fd in (a, b)] == shown
        assert os.read(lfds[a], 100) == b"queued"
        os.write(lfds[b], b"new")
        assert os.read(lfds[a], 100) == b"new"
    for lfd in kept.values():
        os.close(lfd)


def test_pipes_are_given_to_the_task_s_user(images: Path) -> None:
    require(os.geteuid() == 0, "only root can give a pipe to somebody")
    with ds.Stander("r, w = os.pipe()\nstand(r, w)") as child:
        saved = ds.save(child, images)
        _, r, w = child.said[0]
        with ImageSet(images) as found:
            options = RestoreFileOptions(inherit=child.outside)
            with FilesRestore(found, options, saved.tables) as files:
                files.open_all({child.pid: (65534, 65533)})
                lfds = ds.by_number(files, child.pid)
                for lfd in (lfds[r], lfds[w]):
                    assert (os.fstat(lfd).st_uid, os.fstat(lfd).st_gid) == (65534, 65533)
