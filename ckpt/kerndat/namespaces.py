"""Probes of namespaces, mounts and cgroups. Each is made in a child, which takes it to its grave.

Source: namespaces(7), time_namespaces(7), cgroups(7), move_mount(2).
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.kerndat.probe import Finding, Need, limited, missing, ok, probe
from ckpt.kerndat.trial import address, call, expect, in_child
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.mountinfo import parse_mountinfo
from ckpt.procfs.timens import TimensOffsets, parse_timens_offsets, render_timens_offsets

if TYPE_CHECKING:
    from collections.abc import Callable

_CLONE_NEWTIME = 0x80
_CLONE_NEWNS = 0x20000
_CLONE_NEWCGROUP = 0x2000000
_CLONE_NEWUSER = 0x10000000
_MS_REC, _MS_PRIVATE = 0x4000, 1 << 18
_MOVE_MOUNT_SET_GROUP = 0x100
_NO_RESTORE = "ckpt does not restore network namespaces yet"


def _unshared(flags: int) -> Callable[[], object]:
    return lambda: call("unshare", flags)


@probe(
    "timens",
    Need.TREE,
    "clocks that go on where they were at the dump",
    "CLOCK_MONOTONIC and BOOTTIME of restored tasks jump",
    criu=("timens",),
)
def timens() -> None:
    offsets = TimensOffsets(1_500_000_000, -2_000_000_000)

    def trial() -> None:
        call("unshare", _CLONE_NEWTIME)
        path = Path("/proc/self/timens_offsets")
        path.write_bytes(render_timens_offsets(offsets))
        expect(parse_timens_offsets(path.read_bytes()) == offsets, "other offsets than were set")

    in_child(trial)


@probe("userns", Need.LATER, "user namespaces", "such trees are refused", criu=("userns",))
def userns() -> None:
    in_child(_unshared(_CLONE_NEWUSER))


@probe("cgroupns", Need.LATER, "cgroup namespaces", "such trees are refused", criu=("cgroupns",))
def cgroupns() -> None:
    in_child(_unshared(_CLONE_NEWCGROUP))


@probe(
    "ns_pid",
    Need.TREE,
    "the pid that a task has inside its own pid namespace",
    "trees with pid namespaces can't be seen through",
    criu=("ns_pid",),
)
def ns_pid() -> None:
    expect(b"\nNSpid:" in Path("/proc/self/status").read_bytes(), "status does not show it")


@probe(
    "move_mount_set_group",
    Need.LATER,
    "sharing of mounts, set afterwards",
    "mount namespaces are refused",
    criu=("move_mount_set_group",),
)
def move_mount_set_group() -> None:
    """Flags are looked at before the paths: another error than EINVAL means that it is known."""
    empty = bytearray(b"\0")
    try:
        call("move_mount", -1, address(empty), -1, address(empty), _MOVE_MOUNT_SET_GROUP)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.EBADF):
            raise


@probe(
    "overlayfs_maps",
    Need.TREE,
    "mapped files on overlayfs",
    "maps and stat name different devices: ckpt asks map_files instead",
    criu=("overlayfs_maps",),
)
def overlayfs_maps() -> Finding:
    """A file on a small overlay in a mount namespace of a child, mapped and compared."""

    def trial() -> None:
        call("unshare", _CLONE_NEWNS)
        _mount("none", "/", "", _MS_REC | _MS_PRIVATE, "")
        _mount("ckpt", "/tmp", "tmpfs", 0, "")
        for name in ("low", "high", "work", "all"):
            Path("/tmp", name).mkdir()
        Path("/tmp/low/file").write_bytes(b"x" * mmap.PAGESIZE)
        options = "lowerdir=/tmp/low,upperdir=/tmp/high,workdir=/tmp/work"
        _mount("ckpt", "/tmp/all", "overlay", 0, options)
        with (
            Path("/tmp/all/file").open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ),
        ):
            stat = os.fstat(file.fileno())
            maps = parse_maps(Path("/proc/self/maps").read_bytes())
            shown = next(m for m in maps if m.path.endswith("/file"))
            if (shown.dev, shown.ino) != (stat.st_dev, stat.st_ino):
                raise OSError(errno.EXDEV, "")

    try:
        in_child(trial)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return missing("no overlayfs here to try it with")
        if error.errno == errno.EXDEV:
            return missing("maps shows another file than stat")
        raise
    return ok("maps and stat agree")


def _mount(source: str, target: str, fstype: str, flags: int, options: str) -> None:
    texts = [bytearray(text.encode() + b"\0") for text in (source, target, fstype, options)]
    at = [address(text) for text in texts]
    call("mount", at[0], at[1], at[2], flags, at[3])


@probe("cgroup", Need.TREE, "cgroups of a tree", "trees stay in ckpt's own cgroup")
def cgroup() -> Finding:
    mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())
    found = {m.fstype for m in mounts} & {"cgroup", "cgroup2"}
    if not found:
        return missing("none is mounted")
    names = {"cgroup": "v1", "cgroup2": "v2"}
    return ok(" and ".join(sorted(names[fstype] for fstype in found)))


@probe("freezer", Need.BETTER, "stopping all tasks of a cgroup at once", "tasks are stopped singly")
def freezer() -> Finding:
    mounts = parse_mountinfo(Path("/proc/self/mountinfo").read_bytes())
    if any(m.fstype == "cgroup" and "freezer" in m.super_options for m in mounts):
        return ok("v1")
    for mount in mounts:
        if mount.fstype == "cgroup2":
            if any(Path(mount.mountpoint).glob("*/cgroup.freeze")):
                return ok("v2")
            return limited("v2, but no cgroup below its root to see it in")
    return missing("no cgroup hierarchy has it")


@probe(
    "external_net_ns",
    Need.LATER,
    "a network namespace that is given on restore",
    "such trees are refused",
    criu=("external_net_ns",),
)
def external_net_ns() -> Finding:
    return missing(_NO_RESTORE)
