"""A page server that dies, or whose disk fails, at any call: the next one can start, nothing looks
whole that is not, and after an error nothing is left."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError
from ckpt.images.chain import Chain
from ckpt.images.pagemap import PE_PARENT, Run
from ckpt.images.pageserver.store import ReceivedImages
from tests.support.pageserver import PAGE, names, pages, present

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

BASE = 0x7000_0000
FALLIBLE = ("open", "write", "writev", "rename", "fsync", "mkdir", "symlink")
FATAL = (*FALLIBLE, "close", "unlink", "rmdir")
WHOLE = ["ckpt-checksums-pages.img", "pagemap-7.img", "pagemap-8.img", "pages-1.img", "pages-2.img"]


def receive(directory: Path, prev: str = "") -> None:
    """Two images; the second page of the first one is the parent's, if there is a parent."""
    with ReceivedImages(directory, prev=prev) as images:
        images.open("pagemap-7")
        nr_new = 1 if prev else 2
        images.add(present(BASE, nr_new))
        images.advance(os.write(images.pages_lfd, pages(nr_new)))
        if prev:
            images.add(Run(BASE + PAGE, 1, PE_PARENT))
        images.open("pagemap-8")
        images.add(present(BASE, 1))
        images.advance(os.write(images.pages_lfd, pages(1)))
        images.commit()


def at_call(call: int, calls: tuple[str, ...], act: Callable[[], None]) -> None:
    """From now on, do `act` in place of the `call`-th one."""
    left = call

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                act()
            return real(*args, **kwargs)

        return wrapped

    for name in calls:
        setattr(os, name, counted(getattr(os, name)))


def die() -> None:
    os._exit(9)


def fail() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def in_child(calls: tuple[str, ...], act: Callable[[], None], tmp_path: Path) -> Iterator[Path]:
    """For every call that a server makes: the directory, after it was the one at which `act` was
    done in a child. The child ends with 9 for that; with 0 there is none so late."""
    first = tmp_path / "first"
    first.mkdir()
    receive(first)
    code, call = 9, 0
    while code == 9:
        call += 1
        directory = tmp_path / str(call)
        directory.mkdir()
        pid = os.fork()
        if pid == 0:
            try:
                at_call(call, calls, act)
                receive(directory, "../first")
            except (ImageError, OSError):
                os._exit(9)
            except BaseException:
                os._exit(1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, 9), call
        yield directory


def whole(directory: Path) -> bool:
    if names(directory) != sorted([*WHOLE, "parent"]):
        return False
    with Chain(directory, pages_only=True) as chain:
        chain.verify_pages().wait()
        assert [piece.layer for piece in chain.resolve("pagemap-7")] == [0, 1]
    return True


def test_no_death_is_taken_for_success(tmp_path: Path) -> None:
    clean, refused, complete = 0, 0, 0
    for directory in in_child(FATAL, die, tmp_path):
        if whole(directory):
            complete += 1
            continue
        before = names(directory)
        try:
            receive(directory, "../first")
        except ImageError as error:
            assert "holds pages already" in str(error)
            assert "ckpt-checksums-pages.img" not in before or ".ckpt-pages.tmp" in before
            refused += 1
        else:
            assert whole(directory), "the next server is hindered by what is left"
            clean += 1
    # Most die while the files are made, some between the renames, the last ones after that.
    assert clean > 20, (clean, refused, complete)
    assert refused > 4, (clean, refused, complete)
    assert complete >= 1, (clean, refused, complete)


def test_an_error_of_the_disk_leaves_nothing(tmp_path: Path) -> None:
    nr_failed = 0
    for directory in in_child(FALLIBLE, fail, tmp_path):
        if whole(directory):
            continue
        assert names(directory) == []
        nr_failed += 1
    assert nr_failed > 15
