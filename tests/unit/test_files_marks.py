"""From what fdinfo tells of watched inodes to paths, and back."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from ckpt._native import ffi, lib
from ckpt.errors import KernelError, RestoreError
from ckpt.files import FileOptions
from ckpt.files.anonymous import address
from ckpt.files.marks import Finder, Handle, Mark, device, open_marked, parse_marks, put_handle
from ckpt.images.types import message_class
from tests.requirements import require

INFO = (
    b"pos:\t0\nflags:\t00\nmnt_id:\t15\nino:\t1\n"
    b"inotify wd:a ino:20e52f sdev:fe00001 mask:84000003 ignored_mask:0 "
    b"fhandle-bytes:8 fhandle-type:81 f_handle:2fe5200063b5e81f\n"
    b"inotify wd:2 ino:3 sdev:6 mask:3 ignored_mask:0\n"
)


def mark_of(path: Path, handle: Handle | None = None) -> Mark:
    seen = path.lstat()
    sdev = os.major(seen.st_dev) << 20 | os.minor(seen.st_dev)
    return Mark({"ino": seen.st_ino, "sdev": sdev}, handle or Handle())


def handle_of(path: Path) -> Handle:
    """name_to_handle_at(2)."""
    room = ffi.new("char[]", struct.pack("=Ii", 128, 0) + bytes(128))
    mount, name = ffi.new("int *"), ffi.from_buffer(os.fsencode(path) + b"\0")
    result = lib.ckpt_call(
        303, -100 & (1 << 64) - 1, address(name), address(room), address(mount), 0, 0
    )
    require(result == 0, "the file system of the tests has no file handles")
    size, kind = struct.unpack("=Ii", bytes(ffi.buffer(room, 8)))
    return Handle(kind, bytes(ffi.buffer(room, 8 + size))[8:])


def test_lines_of_fdinfo_are_read() -> None:
    first, second = parse_marks(INFO, "inotify")
    assert (first.wd, first.ino, first.mask) == (10, 0x20E52F, 0x84000003)
    assert first.handle == Handle(0x81, bytes.fromhex("2fe5200063b5e81f"))
    assert first.dev == os.makedev(254, 1) == device(0xFE00001)
    assert second.handle == Handle() and second.wd == 2
    assert parse_marks(INFO, "fanotify") == []


def test_a_line_that_is_not_as_documented_is_told() -> None:
    with pytest.raises(KernelError, match="can't be read"):
        parse_marks(b"inotify wd:x ino:1\n", "inotify")


def test_a_handle_leads_to_the_path(tmp_path: Path) -> None:
    file = tmp_path / "a file"
    file.touch()
    handle = handle_of(file)
    assert Finder(FileOptions()).path(mark_of(file, handle)) == str(file)


def test_what_has_no_handle_is_searched_for(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b" / "file"
    deep.parent.mkdir(parents=True)
    deep.touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    searched = Finder(FileOptions(irmap_scan_paths=(str(tmp_path),)))
    assert searched.path(mark_of(deep)) == str(deep)
    assert searched.path(mark_of(deep.parent)) == str(deep.parent)
    assert searched.path(mark_of(tmp_path / "a" / "loop")) == str(tmp_path / "a" / "loop")
    assert searched.path(mark_of(tmp_path)) == str(tmp_path)
    assert Finder(FileOptions()).path(mark_of(deep)) is None


def test_force_irmap_does_not_ask_the_kernel(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    mark = mark_of(file, handle_of(file))
    assert Finder(FileOptions(force_irmap=True)).path(mark) is None
    here = FileOptions(force_irmap=True, irmap_scan_paths=(str(tmp_path),))
    assert Finder(here).path(mark) == str(file)


def test_a_name_that_leads_elsewhere_now_is_not_believed(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.touch()
    finder = Finder(FileOptions(irmap_scan_paths=(str(tmp_path),)))
    mark = mark_of(old)
    assert finder.path(mark) == str(old)
    old.rename(new)
    assert finder.path(mark) == str(new)
    new.unlink()
    assert finder.path(mark) is None


def entry(path: str, handle: Handle) -> Any:
    cls: Any = message_class("fh.fh_entry")
    message = cls()
    put_handle(message, handle, path)
    return message


def test_an_inode_is_opened_by_its_path_or_else_by_its_handle(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    handle, sdev = handle_of(file), mark_of(file).sdev
    for message in (entry(str(file), Handle()), entry("", handle)):
        lfd = open_marked(message, sdev, "was watched")
        assert os.path.samestat(os.fstat(lfd), file.stat())
        os.close(lfd)
    with pytest.raises(RestoreError, match="can't be found"):
        open_marked(entry(str(tmp_path / "gone"), handle), sdev, "was watched")
    with pytest.raises(RestoreError, match="not mounted"):
        open_marked(entry("", handle), 0xFFFFF, "was watched")


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    before = len(os.listdir("/proc/self/fd"))
    Finder(FileOptions()).path(mark_of(file, handle_of(file)))
    Finder(FileOptions()).path(mark_of(file, Handle(1, b"\xff" * 8)))
    assert len(os.listdir("/proc/self/fd")) == before
