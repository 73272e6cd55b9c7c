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
from tests.support.socket_entries import (
    extra,
    inet,
    inet_option,
    membership,
    netlink,
    packet,
    stream,
)

FOWN = {"uid": 0, "euid": 0, "signum": 0, "pid_type": 0, "pid": 0}
REG, PIPE, FIFO, TTY, MEMFD, TUNF = 1, 2, 3, 11, 18, 15
EVENTFD, EPOLL, TIMERFD, PIDFD = 6, 7, 17, 20
INOTIFY, FANOTIFY = 8, 12


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
    message = {"id": file_id, "tty_info_id": 7, "flags": 2, "fown": FOWN, **fields}
    return new("fdinfo.file_entry", type=TTY, id=file_id, tty=message)


def fifo(file_id: int = 1, **fields: Any) -> Any:
    message = {"id": file_id, "pipe_id": 9, "regf_id": 2, **fields}
    return new("fdinfo.file_entry", type=FIFO, id=file_id, fifo=message)


def eventfd(file_id: int = 1, **fields: Any) -> Any:
    message = {"id": file_id, "flags": 2, "fown": FOWN, "counter": 0, **fields}
    return new("fdinfo.file_entry", type=EVENTFD, id=file_id, efd=message)


def epoll(file_id: int = 1, **watch: Any) -> Any:
    watches = [{"id": file_id, "tfd": 3, "events": 1, "data": 0, **watch}]
    message = {"id": file_id, "flags": 2, "fown": FOWN, "tfd": watches}
    return new("fdinfo.file_entry", type=EPOLL, id=file_id, epfd=message)


def epoll_target(**fields: Any) -> Any:
    known = {"id": 1, "index": 0, "tfd": 9, "file_id": 1}
    return new("ckpt_epoll.ckpt_epoll_entry", **{**known, **fields})


def timerfd(file_id: int = 1, **fields: Any) -> Any:
    times = dict.fromkeys(("ticks", "settime_flags", "vsec", "vnsec", "isec", "insec"), 0)
    message = {"id": file_id, "flags": 2, "fown": FOWN, "clockid": 1, **times, **fields}
    return new("fdinfo.file_entry", type=TIMERFD, id=file_id, tfd=message)


def pidfd(file_id: int = 1, **fields: Any) -> Any:
    message = {"id": file_id, "ino": 5, "flags": 0, "nspid": -1, "fown": FOWN, **fields}
    return new("fdinfo.file_entry", type=PIDFD, id=file_id, pidfd=message)


def ended(status: int) -> Any:
    return new("ckpt_pidfd.ckpt_pidfd_entry", id=1, status=status)


HANDLE = {"bytes": 8, "type": 1, "handle": [0] * 16, "path": "/"}


def inotify(watches: int = 1, **fields: Any) -> Any:
    known = {"id": 1, "i_ino": 5, "mask": 2, "ignored_mask": 0, "s_dev": 1, "wd": 1}
    watch = {**known, "f_handle": HANDLE, **fields}
    message = {"id": 1, "flags": 0, "fown": FOWN, "wd": [watch] * watches}
    return new("fdinfo.file_entry", type=INOTIFY, id=1, ify=message)


def fanotify(**fields: Any) -> Any:
    known = {"id": 1, "type": 1, "mflags": 0, "mask": 2, "ignored_mask": 0, "s_dev": 1}
    mark = {**known, "ie": {"i_ino": 5, "f_handle": HANDLE}, **fields}
    message = {"id": 1, "flags": 2, "fown": FOWN, "faflags": 0, "evflags": 0, "mark": [mark]}
    return new("fdinfo.file_entry", type=FANOTIFY, id=1, ffy=message)


def filesystem(**fields: Any) -> Any:
    known = {"id": 1, "mflags": 0, "mask": 2, "ignored_mask": 0, "path": "/"}
    return new("ckpt_fanotify.ckpt_fanotify_entry", **{**known, **fields})


def remap(**fields: Any) -> Any:
    known = {"orig_id": 1, "remap_id": 5, "remap_type": 1}
    return new("remap_file_path.remap_file_path_entry", **{**known, **fields})


def ghost(**fields: Any) -> Any:
    known = {"uid": 0, "gid": 0, "mode": 0o100644}
    return new("ghost_file.ghost_file_entry", **{**known, **fields})


def chunk(offset: int, payload: bytes) -> Any:
    return (new("ghost_file.ghost_chunk_entry", off=offset, len=len(payload)), payload)


def removed(*records: Any, **fields: Any) -> dict[str, list[Any]]:
    return {"files": [file()], "remap-fpath": [remap(**fields)], "ghost-file-5": list(records)}


TIME = {"tv_sec": 0, "tv_usec": 0}
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
    "an owner's type": ({"files": [file(fown={**FOWN, "pid": 7, "pid_type": 3})]}, "owner"),
    "an owner's number": ({"files": [file(fown={**FOWN, "pid": 2**31})]}, "owner"),
    "unknown flags": ({"files": [file(flags=1 << 30)]}, "open flags"),
    "a build id": ({"files": [file(build_id=[1] * 17)]}, "build id"),
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
    "pages of no size": (
        {"files": [memfd()], "memfd": [inode(hugetlb_flag=4 | 63 << 26)]},
        "huge pages",
    ),
    "half a huge page": (
        {"files": [memfd()], "memfd": [inode(size=1 << 20, hugetlb_flag=4)]},
        "size",
    ),
    "a huge memfd": ({"files": [memfd()], "memfd": [inode(size=2**63)]}, "size"),
    "unknown seals": ({"files": [memfd()], "memfd": [inode(seals=1 << 20)]}, "seals"),
    "a long name": ({"files": [memfd()], "memfd": [inode(name="n" * 250)]}, "name"),
    "a terminal alone": ({"files": [tty()]}, "tty-info"),
    "a FIFO alone": ({"files": [fifo()]}, "no path"),
    "a counter": ({"files": [eventfd(counter=2**64 - 1)]}, "counter"),
    "flags of an eventfd": ({"files": [eventfd(flags=os.O_TRUNC)]}, "open flags"),
    "a clock": ({"files": [timerfd(clockid=5)]}, "clock 5"),
    "a timer's flags": ({"files": [timerfd(settime_flags=4)]}, "flags 0x4"),
    "a time": ({"files": [timerfd(vsec=2**63)]}, "time"),
    "a fraction": ({"files": [timerfd(insec=10**9)]}, "time"),
    "a watched number": ({"files": [epoll(tfd=2**31)]}, "watches descriptor"),
    "nothing to watch": ({"files": [epoll(tfd=4)]}, "watches descriptor 4, which no task has"),
    "a named number": ({"files": [epoll()], "ckpt-epoll": [epoll_target(tfd=2**31)]}, "watches"),
    "a named target": ({"files": [epoll()], "ckpt-epoll": [epoll_target(file_id=5)]}, "no task"),
    "a process": ({"files": [pidfd(nspid=-2)]}, "process -2"),
    "a huge process": ({"files": [pidfd(nspid=1 << 30)]}, "process"),
    "an end": ({"files": [pidfd()], "ckpt-pidfd": [ended(0x17F)]}, "status 0x17f"),
    "a large end": ({"files": [pidfd()], "ckpt-pidfd": [ended(0x10000)]}, "status"),
    "a watch": ({"files": [inotify(wd=0)]}, "watch 0"),
    "a watch twice": ({"files": [inotify(watches=2)]}, "watch 1"),
    "a handle": ({"files": [inotify(f_handle={**HANDLE, "bytes": 129})]}, "handle"),
    "a short handle": ({"files": [inotify(f_handle={**HANDLE, "handle": []})]}, "handle"),
    "a watched path": ({"files": [inotify(f_handle={**HANDLE, "path": "x"})]}, "path"),
    "a mark's path": (
        {"files": [fanotify(ie={"i_ino": 5, "f_handle": {**HANDLE, "path": "/a\0b"}})]},
        "path",
    ),
    "a mark's flags": ({"files": [fanotify(mflags=0x80)]}, "flags 0x80"),
    "a question": ({"files": [fanotify(mask=0x10000)]}, "permission"),
    "a mark on nothing": ({"files": [fanotify(type=2)]}, "on nothing"),
    "a file system": ({"files": [fanotify()], "ckpt-fanotify": [filesystem(path="")]}, "nothing"),
    "a sort of socket": ({"files": [inet(proto=17)]}, "sort"),
    "a state": ({"files": [inet(state=13)]}, "state 13"),
    "a datagram socket's state": ({"files": [inet(type=2, proto=17)]}, "LISTEN"),
    "a short address": ({"files": [inet(family=10)]}, "address"),
    "a port": ({"files": [inet(src_port=65536)]}, "address"),
    "a backlog": ({"files": [inet(backlog=2**31)]}, "backlog"),
    "a buffer": ({"files": [inet({"so_rcvbuf": 2**31})]}, "buffer"),
    "a limit": ({"files": [inet({"so_snd_tmo_usec": 10**6})]}, "time limit"),
    "a long wait": ({"files": [inet({"so_linger": 2**31})]}, "lingers longer"),
    "a device's name": ({"files": [inet({"so_bound_dev": "a" * 16})]}, "device"),
    "a long filter": ({"files": [inet({"so_filter": [0] * 4097})]}, "filter"),
    "flags of a socket": ({"files": [inet(flags=os.O_CREAT)]}, "open flags"),
    "an option": ({"files": [inet()], "ckpt-inet": [inet_option(name=26)]}, "option 26"),
    "a long option": ({"files": [inet()], "ckpt-inet": [inet_option(value=b"x" * 257)]}, "option"),
    "options of nothing": ({"files": [inet()], "ckpt-inet": [inet_option(id=2)]}, "no socket"),
    "options twice": ({"files": [inet()], "ckpt-inet": [inet_option()] * 2}, "twice"),
    "a raw socket of nothing": ({"files": [inet(type=3, proto=0)]}, "sort"),
    "a raw socket of too much": ({"files": [inet(type=3, proto=256)]}, "sort"),
    "a group": ({"files": [inet()], "ckpt-inet": [membership(group=b"abc")]}, "multicast"),
    "a source": ({"files": [inet()], "ckpt-inet": [membership(sources=[b"a" * 16])]}, "multicast"),
    "a mode": ({"files": [inet()], "ckpt-inet": [membership(mode=2)]}, "multicast"),
    "its device": ({"files": [inet()], "ckpt-inet": [membership(device="a" * 16)]}, "multicast"),
    "a protocol": ({"files": [netlink(protocol=5)]}, "protocol 5"),
    "a port of the audit system": ({"files": [netlink(protocol=9, portid=7)]}, "audit"),
    "many groups": ({"files": [netlink(groups=[0] * 4097)]}, "groups"),
    "a group to talk to": ({"files": [netlink(dst_group=33)]}, "group 33"),
    "a type": ({"files": [netlink()], "ckpt-netlink": [extra(type=1)]}, "type 1"),
    "nobody": ({"files": [netlink()], "ckpt-netlink": [extra(uid=2**32 - 1)]}, "nobody"),
    "an option of none": (
        {
            "files": [netlink()],
            "ckpt-netlink": [extra([{"level": 270, "name": 1, "value": b"1234"}])],
        },
        "option 1 of level 270",
    ),
    "two of one": ({"files": [netlink()], "ckpt-netlink": [extra(), extra()]}, "twice"),
    "the old type": ({"files": [packet(type=10)]}, "type 10"),
    "a member": (
        {"files": [packet(mclist=[{"index": 1, "type": 4, "addr": b""}])]},
        "memberships",
    ),
    "a long member": (
        {"files": [packet(mclist=[{"index": 1, "type": 0, "addr": b"a" * 33}])]},
        "memberships",
    ),
    "an interface": ({"files": [packet(ifindex=2**31)]}, "number"),
    "its name": ({"files": [packet()], "ckpt-packet": [extra(device="a" * 16)]}, "interface"),
    "no ghost": (removed(), "missing or empty"),
    "another's ghost": (removed(ghost(), orig_id=9), "no file of files.img"),
    "a name nowhere": (removed(remap_id=9, remap_type=0), "nowhere"),
    "lost twice": ({**removed(ghost()), "remap-fpath": [remap(), remap()]}, "twice"),
    "a chunk outside": (removed(ghost(chunks=True, size=4), chunk(2, b"abc")), "outside"),
    "a chunk far outside": (removed(ghost(chunks=True, size=4), chunk(2**64 - 1, b"a")), "outside"),
    "a huge ghost": (removed(ghost(chunks=True, size=2**63)), "outside"),
    "a folder with data": (removed((ghost(mode=0o40755), b"x")), "is no file"),
    "a made device": (removed(ghost(mode=0o20666, rdev=0x801)), "device 0x801"),
    "a ghost's time": (
        removed(ghost(atim=TIME, mtim={**TIME, "tv_usec": 10**6})),
        "time that can't be",
    ),
    "a connection alone": ({"files": [inet(state=1)]}, "missing"),
    "more unsent": ({"files": [inet(state=1)], "tcp-stream-5": [stream(unsq_len=1)]}, "not sent"),
    "a window": ({"files": [inet(state=8)], "tcp-stream-5": [stream(snd_wscale=15)]}, "window"),
    "a segment": ({"files": [inet(state=4)], "tcp-stream-5": [stream(mss_clamp=0)]}, "segment"),
    "a lock's descriptor": ({"files": [file()], "filelocks": [lock(fd=4)]}, "no descriptor 4"),
    "a lease's descriptor": ({"files": [file()], "filelocks": [lock(flag=32, fd=4)]}, "no desc"),
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
            FilesRestore(saved, RestoreFileOptions(file_locks=True, tcp_established=True), {7: 1})
        assert len(os.listdir("/proc/self/fd")) == before


UNSUPPORTED: dict[str, tuple[Images, str]] = {
    "a socket": (
        {
            "files": [new("fdinfo.file_entry", type=TUNF, id=1)],
            "fdinfo-1": [fd(kind=TUNF)],
        },
        "TUNF",
    ),
    "a made socket": (removed(ghost(mode=0o140755)), "type 0o140755"),
    "a dead process": (removed(remap_type=2), "dead process"),
    "a delegation": ({"files": [file()], "filelocks": [lock(flag=4)]}, "kind"),
}


@pytest.mark.parametrize(("images", "text"), UNSUPPORTED.values(), ids=UNSUPPORTED.keys())
def test_what_criu_can_and_ckpt_can_not_yet(images: Images, text: str, tmp_path: Path) -> None:
    ds.write_set(tmp_path, {"fdinfo-1": [fd(kind=images["files"][0].type)], **images})
    with ImageSet(tmp_path) as saved, pytest.raises(RestoreError, match=text):
        FilesRestore(saved, RestoreFileOptions(file_locks=True), {7: 1})


def test_an_owner_outside_the_tree_is_told(tmp_path: Path) -> None:
    owned = file(fown={**FOWN, "pid": 9, "pid_type": 1})
    ds.write_set(tmp_path, {"files": [owned], "fdinfo-1": [fd()]})
    with ImageSet(tmp_path) as saved:
        files = FilesRestore(saved, RestoreFileOptions(), {7: 1})
        files.check_tree({7, 9}, {})
        with pytest.raises(ImageError, match="signals to 9"):
            files.check_tree({7}, {9: 9})


def test_a_missing_table_is_told(tmp_path: Path) -> None:
    ds.write_set(tmp_path, {"files": [file()]})
    with ImageSet(tmp_path) as saved, pytest.raises(ImageError, match="missing"):
        FilesRestore(saved, RestoreFileOptions(), {7: 1})


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
    assert {one.load().type for one in DUMP_KINDS} == {one.type for one in RESTORE_KINDS}
    seen: set[Any] = set()
    for one in RESTORE_KINDS:
        kind = one.load()
        assert kind.type is one.type
        assert set(kind.needs) <= seen, f"{kind} comes before what it needs"
        assert kind.opener in Opener
        seen.add(kind.type)
