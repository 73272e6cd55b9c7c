"""Images that nobody's dump would write: refused before anything is opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ckpt.errors import ImageError, RestoreError
from ckpt.files import FilesRestore, RestoreFileOptions
from ckpt.files.kind import Opener
from ckpt.files.registry import DUMP_KINDS, RESTORE_KINDS
from ckpt.images.reader import ImageSet
from ckpt.images.types import message_class
from tests.support import descriptors as ds

FOWN = {"uid": 0, "euid": 0, "signum": 0, "pid_type": 0, "pid": 0}
REG, PIPE, FIFO, TTY, MEMFD, INETSK = 1, 2, 3, 11, 18, 4


def new(ref: str, **fields: Any) -> Any:
    cls: Any = message_class(ref)
    return cls(**fields)


def file(file_id: int = 1, **fields: Any) -> Any:
    reg = {"id": file_id, "flags": 0, "pos": 0, "fown": FOWN, "name": "/dev/null", **fields}
    return new("fdinfo.file_entry", type=REG, id=file_id, reg=reg)


def pipe(file_id: int = 1, **fields: Any) -> Any:
    message = {"id": file_id, "pipe_id": 9, "flags": 0, "fown": FOWN, **fields}
    return new("fdinfo.file_entry", type=PIPE, id=file_id, pipe=message)


def memfd(file_id: int = 1, **fields: Any) -> Any:
    message = {"id": file_id, "flags": 2, "pos": 0, "fown": FOWN, "inode_id": 1, **fields}
    return new("fdinfo.file_entry", type=MEMFD, id=file_id, memfd=message)


def inode(**fields: Any) -> Any:
    known = {"name": "m", "uid": 0, "gid": 0, "size": 0, "shmid": 5, "seals": 0, "inode_id": 1}
    return new("memfd.memfd_inode_entry", **{**known, **fields})


def fd(number: int = 3, file_id: int = 1, kind: int = REG) -> Any:
    return new("fdinfo.fdinfo_entry", id=file_id, flags=0, type=kind, fd=number)


def lock(**fields: Any) -> Any:
    known = {"flag": 1, "type": 1, "pid": 7, "fd": 3, "start": 0, "len": 0}
    return new("file_lock.file_lock_entry", **{**known, **fields})


def data(pipe_id: int = 9, payload: bytes = b"", **fields: Any) -> Any:
    message = new("pipe_data.pipe_data_entry", pipe_id=pipe_id, bytes=len(payload), **fields)
    return (message, payload)


def tty(file_id: int = 1, **fields: Any) -> Any:
    message = {"id": file_id, "tty_info_id": 6, "flags": 2, "fown": FOWN, **fields}
    return new("fdinfo.file_entry", type=TTY, id=file_id, tty=message)


def fifo(file_id: int = 1, **fields: Any) -> Any:
    message = {"id": file_id, "pipe_id": 9, "regf_id": 2, **fields}
    return new("fdinfo.file_entry", type=FIFO, id=file_id, fifo=message)


Images = dict[str, list[Any]]
HOSTILE: dict[str, tuple[Images, str]] = {
    "an id twice": ({"files": [file(), file()]}, "twice"),
    "two ids": ({"files": [new("fdinfo.file_entry", type=REG, id=2, reg=file().reg)]}, "two ids"),
    "no message": ({"files": [new("fdinfo.file_entry", type=REG, id=1)]}, "has none"),
    "no path": ({"files": [file(name="")]}, "no path"),
    "a relative path": ({"files": [file(name="etc/passwd")]}, "not absolute"),
    "a path with a zero": ({"files": [file(name="/a\0b")]}, "no path"),
    "a long path": ({"files": [file(name="/" + "a" * 5000)]}, "no path"),
    "truncating": ({"files": [file(flags=os.O_RDWR | os.O_TRUNC)]}, "open flags"),
    "creating": ({"files": [file(flags=os.O_RDWR | os.O_CREAT)]}, "open flags"),
    "signals": ({"files": [file(flags=0o20000)]}, "open flags"),
    "unknown flags": ({"files": [file(flags=1 << 30)]}, "open flags"),
    "a position": ({"files": [file(pos=2**63)]}, "position"),
    "a signal": ({"files": [file(fown={**FOWN, "signum": 99})]}, "signal 99"),
    "no file": ({"files": []}, "files.img has not"),
    "another type": ({"files": [file()], "fdinfo-1": [fd(kind=PIPE)]}, "of kind PIPE"),
    "a number twice": ({"files": [file()], "fdinfo-1": [fd(), fd()]}, "twice"),
    "a huge number": ({"files": [file()], "fdinfo-1": [fd(2**31)]}, "number"),
    "a pipe with a path": ({"files": [pipe(flags=os.O_PATH)]}, "no pipe has"),
    "data twice": ({"files": [pipe()], "pipes-data": [data(), data()]}, "twice"),
    "too much data": ({"files": [pipe()], "pipes-data": [data(payload=b"x" * 65537)]}, "fits"),
    "a huge pipe": ({"files": [pipe()], "pipes-data": [data(size=2**32 - 1)]}, "size"),
    "no inode": ({"files": [memfd()]}, "no inode"),
    "an inode twice": ({"files": [memfd()], "memfd": [inode(), inode()]}, "twice"),
    "a huge memfd": ({"files": [memfd()], "memfd": [inode(size=2**63)]}, "size"),
    "unknown seals": ({"files": [memfd()], "memfd": [inode(seals=1 << 20)]}, "seals"),
    "a long name": ({"files": [memfd()], "memfd": [inode(name="n" * 250)]}, "name"),
    "a terminal alone": ({"files": [tty()]}, "tty-info"),
    "a FIFO alone": ({"files": [fifo()]}, "no path"),
    "a lock's descriptor": ({"files": [file()], "filelocks": [lock(fd=4)]}, "no descriptor 4"),
    "a lock's pid": ({"files": [file()], "filelocks": [lock(pid=8)]}, "no descriptor 3"),
    "a lock's type": ({"files": [file()], "filelocks": [lock(type=9)]}, "type 9"),
    "a lock's range": ({"files": [file()], "filelocks": [lock(start=-1)]}, "range"),
}


@pytest.mark.parametrize(("images", "text"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_images_fail_before_anything_is_opened(
    images: Images, text: str, tmp_path: Path
) -> None:
    kind = images["files"][0].type if images["files"] else REG
    ds.write_set(tmp_path, {"fdinfo-1": [fd(kind=kind)], **images})
    with ImageSet(tmp_path) as saved:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ImageError, match=text):
            FilesRestore(saved, RestoreFileOptions(file_locks=True), {7: 1})
        assert len(os.listdir("/proc/self/fd")) == before


UNSUPPORTED: dict[str, tuple[Images, str]] = {
    "a socket": (
        {
            "files": [new("fdinfo.file_entry", type=INETSK, id=1)],
            "fdinfo-1": [fd(kind=INETSK)],
        },
        "INETSK",
    ),
    "huge pages": ({"files": [memfd()], "memfd": [inode(hugetlb_flag=4)]}, "huge pages"),
    "an owner": ({"files": [file(fown={**FOWN, "pid": 7})]}, "owner 7"),
    "a lease": ({"files": [file()], "filelocks": [lock(flag=32)]}, "kind"),
}


@pytest.mark.parametrize(("images", "text"), UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_what_criu_can_and_ckpt_can_not_yet(images: Images, text: str, tmp_path: Path) -> None:
    ds.write_set(tmp_path, {"fdinfo-1": [fd(kind=images["files"][0].type)], **images})
    with ImageSet(tmp_path) as saved, pytest.raises(RestoreError, match=text):
        FilesRestore(saved, RestoreFileOptions(file_locks=True), {7: 1})


def test_a_missing_table_is_told(tmp_path: Path) -> None:
    ds.write_set(tmp_path, {"files": [file()]})
    with ImageSet(tmp_path) as saved, pytest.raises(ImageError, match="missing"):
        FilesRestore(saved, RestoreFileOptions(), {7: 1})


def test_a_file_without_a_name_is_not_opened_by_its_old_one(tmp_path: Path) -> None:
    remap = new("remap_file_path.remap_file_path_entry", orig_id=1, remap_id=1)
    ds.write_set(tmp_path, {"files": [file()], "fdinfo-1": [fd()], "remap-fpath": [remap]})
    with ImageSet(tmp_path) as saved:
        files = FilesRestore(saved, RestoreFileOptions(), {7: 1})
        with pytest.raises(RestoreError, match="had no name"):
            files.open_all()


def test_a_path_to_a_pipe_or_device_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for number, path in enumerate((tmp_path / "fifo", Path("/dev/kmsg"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        ds.write_set(folder, {"files": [file(name=str(path))], "fdinfo-1": [fd()]})
        with ImageSet(folder) as saved:
            files = FilesRestore(saved, RestoreFileOptions(), {7: 1})
            with pytest.raises(RestoreError, match="no file, directory or known device"):
                files.open_all()


def test_the_plan_is_made_without_opening(tmp_path: Path) -> None:
    ds.write_set(
        tmp_path,
        {
            "files": [pipe(1), pipe(2, flags=os.O_WRONLY), file(3, name="/gone", flags=2, pos=5)],
            "fdinfo-1": [fd(0, 1, PIPE), fd(1, 2, PIPE), fd(5, 3)],
            "pipes-data": [data(payload=b"abc")],
        },
    )
    with ImageSet(tmp_path) as saved:
        files = FilesRestore(saved, RestoreFileOptions(), {7: 1})
        assert [str(step) for step in files.plan()] == [
            "controller: open /gone O_RDWR at 5",
            "controller: open pipe:[9] O_RDONLY, 3 bytes in it",
            "controller: open pipe:[9] O_WRONLY, 3 bytes in it",
        ]
        assert [p.fd for p in files.placements(7)] == [0, 1, 5]
        with pytest.raises(RestoreError, match="No such file"):
            files.open_all()


def test_kinds_are_registered_in_pairs_and_in_order() -> None:
    assert {kind.type for kind in DUMP_KINDS} == {kind.type for kind in RESTORE_KINDS}
    seen = set()
    for kind in RESTORE_KINDS:
        assert set(kind.needs) <= seen, f"{kind} comes before what it needs"
        assert kind.opener in Opener
        seen.add(kind.type)
