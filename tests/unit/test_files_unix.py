"""Images of UNIX sockets that nobody's dump would write: refused before anything is made."""

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

UNIXSK = 5
FOWN = {"uid": 0, "euid": 0, "signum": 0, "pid_type": 0, "pid": 0}
Images = dict[str, list[Any]]


def new(ref: str, **fields: Any) -> Any:
    cls: Any = message_class(ref)
    return cls(**fields)


def fd(number: int = 3, file_id: int = 1) -> Any:
    return new("fdinfo.fdinfo_entry", id=file_id, flags=0, type=UNIXSK, fd=number)


OPTS = {
    "so_sndbuf": 9000,
    "so_rcvbuf": 9000,
    "so_snd_tmo_sec": 0,
    "so_snd_tmo_usec": 0,
    "so_rcv_tmo_sec": 0,
    "so_rcv_tmo_usec": 0,
}


def unix(file_id: int = 1, **fields: Any) -> Any:
    known = {"id": file_id, "ino": file_id, "type": 1, "state": 1, "flags": 2, "uflags": 0}
    more = {"backlog": 0, "peer": 0, "fown": FOWN, "opts": OPTS, "name": b""}
    message = {**known, **more, **fields}
    return new("fdinfo.file_entry", type=UNIXSK, id=file_id, usk=message)


def packet(payload: bytes = b"", **fields: Any) -> Any:
    known = {"id_for": 1, "length": len(payload)}
    return new("sk_packet.sk_packet_entry", **{**known, **fields}), payload


def unix_peer(**fields: Any) -> Any:
    return new("ckpt_unix.ckpt_unix_entry", **{"id": 1, "pid": 7, **fields})


def unix_pair(**fields: Any) -> Images:
    """Two that are connected; `fields` are the second's."""
    table = [fd(), fd(4, 2)]
    return {"files": [unix(peer=2), unix(2, **{"peer": 1, **fields})], "fdinfo-1": table}


EPOLL = new("fdinfo.file_entry", type=7, id=2, epfd={"id": 2, "flags": 2, "fown": FOWN})

HOSTILE: dict[str, tuple[Images, str]] = {
    "a socket's type": ({"files": [unix(type=3)]}, "type 3"),
    "a socket's state": ({"files": [unix(state=2)]}, "state 2"),
    "a socket's flags": ({"files": [unix(flags=0o100)]}, "open flags"),
    "a socket's timeout": (
        {"files": [unix(opts={**OPTS, "so_snd_tmo_usec": 10**6})]},
        "time limit",
    ),
    "a socket's long timeout": (
        {"files": [unix(opts={**OPTS, "so_rcv_tmo_sec": 2**63})]},
        "time limit",
    ),
    "a socket's buffer": ({"files": [unix(opts={**OPTS, "so_rcvbuf": 2**31})]}, "buffer"),
    "a socket's filter": ({"files": [unix(opts={**OPTS, "so_filter": [1]})]}, "packet filter"),
    "a long name": ({"files": [unix(name=b"/" * 109)]}, "109 bytes"),
    "a moved name that is not there": (
        {"files": [unix()], "ckpt-unix": [unix_peer(moved=b"/a")]},
        "renamed",
    ),
    "a name moved to nowhere": (
        {"files": [unix(name=b"/a")], "ckpt-unix": [unix_peer(moved=b"a")]},
        "renamed",
    ),
    "a name with a zero": ({"files": [unix(name=b"/a\0b")]}, "zero byte"),
    "a name relative to nothing": ({"files": [unix(name=b"a")]}, "relative to nothing"),
    "a relative folder": ({"files": [unix(name=b"a", name_dir="b")]}, "relative to nothing"),
    "a folder with a zero": ({"files": [unix(name=b"a", name_dir="/b\0")]}, "zero byte"),
    "a datagram socket that listens": ({"files": [unix(type=2, state=10)]}, "state 10"),
    "a long sender": ({"files": [unix()], "ckpt-unix": [unix_peer(senders=[b"x" * 111])]}, "long"),
    "nobody outside": ({"files": [unix(uflags=1, type=2)]}, "no name to find"),
    "a stream outside": ({"files": [unix(uflags=1, name=b"/a")]}, "no name to find"),
    "a task's socket outside": ({"files": [unix(uflags=1, type=2, name=b"/a")]}, "a task has it"),
    "its own peer": ({"files": [unix(peer=1)]}, "not to it"),
    "a peer of another type": (unix_pair(type=2), "not to it"),
    "a peer of a third": (unix_pair(peer=9), "not to it"),
    "a socket twice": (unix_pair(ino=1), "twice"),
    "a packet for nobody's peer": (
        {"files": [unix(state=7)], "sk-queues": [packet(b"x")]},
        "no peer",
    ),
    "a packet with descriptors": (
        {"files": [unix()], "sk-queues": [packet(scm=[{"type": 1, "rights": [9]}])]},
        "file 0x9, which can't be",
    ),
    "a packet with what no task has": (
        {"files": [unix(), EPOLL], "sk-queues": [packet(scm=[{"type": 1, "rights": [2]}])]},
        "file 0x2, which can't be",
    ),
    "a packet with more": (
        {"files": [unix()], "sk-queues": [packet(scm=[{"type": 2, "rights": [1]}])]},
        "no packet",
    ),
    "a packet with many": (
        {"files": [unix()], "sk-queues": [packet(scm=[{"type": 1, "rights": [1] * 254}])]},
        "no packet",
    ),
    "a huge peer": ({"files": [unix()], "ckpt-unix": [unix_peer(pid=1 << 30)]}, "shows pid"),
    "a peer of many groups": (
        {"files": [unix()], "ckpt-unix": [unix_peer(groups=[1] * 70000)]},
        "70000 groups",
    ),
}


@pytest.mark.parametrize(("images", "text"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_images_fail_before_anything_is_made(
    images: Images, text: str, tmp_path: Path
) -> None:
    ds.write_set(tmp_path, {"fdinfo-1": [fd()], **images})
    with ImageSet(tmp_path) as saved:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ImageError, match=text):
            FilesRestore(saved, RestoreFileOptions(), {7: 1})
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_peer_that_the_set_has_not(tmp_path: Path) -> None:
    ds.write_set(tmp_path, {"files": [unix(peer=9)], "fdinfo-1": [fd()]})
    with ImageSet(tmp_path) as saved, pytest.raises(RestoreError, match="outside the tree"):
        FilesRestore(saved, RestoreFileOptions(), {7: 1})
