"""Images of terminals and packets that nobody's dump would write: refused, nothing is opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ckpt.errors import ImageError, RestoreError
from ckpt.files import FilesRestore, RestoreFileOptions
from ckpt.images.reader import ImageSet
from ckpt.images.types import message_class
from tests.support import descriptors as ds

FOWN = {"uid": 0, "euid": 0, "signum": 0, "pid_type": 0, "pid": 0}
PIPE, TTY = 2, 11


def new(ref: str, **fields: Any) -> Any:
    cls: Any = message_class(ref)
    return cls(**fields)


def fd(number: int = 3, file_id: int = 1, kind: int = TTY) -> Any:
    return new("fdinfo.fdinfo_entry", id=file_id, flags=0, type=kind, fd=number)


def pipe() -> Any:
    message = {"id": 1, "pipe_id": 9, "flags": 0, "fown": FOWN}
    return new("fdinfo.file_entry", type=PIPE, id=1, pipe=message)


def data() -> Any:
    return new("pipe_data.pipe_data_entry", pipe_id=9, bytes=0), b""


def tty(file_id: int = 1, **fields: Any) -> Any:
    message = {"id": file_id, "tty_info_id": 7, "flags": 2, "fown": FOWN, **fields}
    return new("fdinfo.file_entry", type=TTY, id=file_id, tty=message)


def packets() -> Any:
    return new("ckpt_pipe.ckpt_pipe_entry", pipe_id=9, borders=[0, 1])


TERMIOS = {f"c_{n}": 0 for n in ("iflag", "oflag", "cflag", "lflag", "line", "ispeed", "ospeed")}
WINSIZE = {"ws_row": 1, "ws_col": 1, "ws_xpixel": 0, "ws_ypixel": 0}


def terminal(**fields: Any) -> Any:
    """The master of a pseudo terminal; None leaves a field out."""
    known: dict[str, Any] = {"id": 7, "type": 1, "locked": False, "exclusive": False}
    known |= {"packet_mode": False, "sid": 0, "pgrp": 0, "rdev": os.makedev(5, 2)}
    known |= {"termios": {**TERMIOS, "c_cc": [0] * 19}, "winsize": WINSIZE, "pty": {"index": 3}}
    message = {key: value for key, value in {**known, **fields}.items() if value is not None}
    return new("tty.tty_info_entry", **message)


def typed(**fields: Any) -> Any:
    return new("tty.tty_data_entry", **{"tty_id": 7, "data": b"", **fields})


def lines(**fields: Any) -> Any:
    return new("ckpt_tty.ckpt_tty_entry", id=7, **fields)


HOSTILE: dict[str, tuple[dict[str, list[Any]], str]] = {
    "a terminal twice": ({"files": [tty()], "tty-info": [terminal(), terminal()]}, "twice"),
    "a terminal's settings": (
        {"files": [tty()], "tty-info": [terminal(termios={**TERMIOS, "c_cc": [0] * 18})]},
        "settings that no terminal has",
    ),
    "a terminal's number": ({"files": [tty()], "tty-info": [terminal(pty=None)]}, "number"),
    "a huge number of a terminal": (
        {"files": [tty()], "tty-info": [terminal(pty={"index": 1 << 20})]},
        "number",
    ),
    "a terminal's session": ({"files": [tty()], "tty-info": [terminal(sid=1 << 30)]}, "session"),
    "a window of a terminal": (
        {"files": [tty()], "tty-info": [terminal(winsize={**WINSIZE, "ws_col": 1 << 16})]},
        "window",
    ),
    "a dumb master": ({"files": [tty()], "tty-info": [terminal(termios=None)]}, "without settings"),
    "two masters": (
        {
            "files": [tty(), tty(2)],
            "tty-info": [terminal()],
            "fdinfo-1": [fd(3, 1, TTY), fd(4, 2, TTY)],
        },
        "second master",
    ),
    "bytes of no terminal": (
        {"files": [tty()], "tty-info": [terminal()], "tty-data": [typed(tty_id=8)]},
        "not in tty-info",
    ),
    "too many bytes": (
        {"files": [tty()], "tty-info": [terminal()], "tty-data": [typed(data=b"x" * 65537)]},
        "too many bytes",
    ),
    "longer lines": (
        {"files": [tty()], "tty-info": [terminal()], "ckpt-tty": [lines(lines=[1])]},
        "longer lines",
    ),
    "stopped by nobody": (
        {"files": [tty()], "tty-info": [terminal()], "ckpt-tty": [lines(stopped=3)]},
        "makes no sense",
    ),
    "packets of nothing": (
        {"files": [pipe()], "pipes-data": [data()], "ckpt-pipe": [packets()]},
        "packets that are not its data",
    ),
    "packets of no pipe": ({"files": [pipe()], "ckpt-pipe": [packets()]}, "not its data"),
}


def read(folder: Path, images: dict[str, list[Any]]) -> None:
    """The way into a restore that opens nothing yet."""
    ds.write_set(folder, {"fdinfo-1": [fd(kind=images["files"][0].type)], **images})
    with ImageSet(folder) as saved:
        before = len(os.listdir("/proc/self/fd"))
        try:
            FilesRestore(saved, RestoreFileOptions(), {7: 1})
        finally:
            assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(("images", "text"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_images(images: dict[str, list[Any]], text: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=text):
        read(tmp_path, images)


def test_an_unknown_kind_is_not_restored(tmp_path: Path) -> None:
    with pytest.raises(RestoreError, match="not restored yet"):
        read(tmp_path, {"files": [tty()], "tty-info": [terminal(type=0, pty=None)]})


@pytest.mark.parametrize("rdev", [os.makedev(4, 1), os.makedev(1, 3), os.makedev(4, 64)])
def test_a_device_needs_a_path(rdev: int, tmp_path: Path) -> None:
    images = {"files": [tty()], "tty-info": [terminal(type=3, pty=None, rdev=rdev)]}
    with pytest.raises(ImageError, match="without a path"):
        read(tmp_path, images)


def test_a_path_that_leads_to_another_device(tmp_path: Path) -> None:
    """Not opened: it may be anything."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    path = new("regfile.reg_file_entry", id=2, flags=2, pos=0, fown=FOWN, name=str(fifo))
    files = [tty(regf_id=2), new("fdinfo.file_entry", type=1, id=2, reg=path)]
    info = terminal(type=3, pty=None, rdev=os.makedev(4, 1))
    ds.write_set(tmp_path, {"fdinfo-1": [fd()], "files": files, "tty-info": [info]})
    with (
        ImageSet(tmp_path) as saved,
        FilesRestore(saved, RestoreFileOptions(), {7: 1}) as restore,
        pytest.raises(RestoreError, match="not the terminal 4:1 any more"),
    ):
        restore.open_all()
