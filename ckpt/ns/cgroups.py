"""The control groups of this machine: which hierarchies there are, where each is reached, and where
a task is in them.

A hierarchy is named as /proc/PID/cgroup names it: its controllers joined by commas, `name=X` for a
named one, nothing for version 2. Paths of groups are those of that file. The directory of a group
is found by a mount of the hierarchy that shows it, or in a yard: a folder with one directory for
each hierarchy, called as CRIU's `--cgroup-yard` has it.

Source: cgroups(7), Documentation/admin-guide/cgroup-v1 and cgroup-v2.rst, criu(8).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.procfs.cgroup import parse_cgroup
from ckpt.procfs.mountinfo import parse_mountinfo
from ckpt.procfs.reader import read_system
from ckpt.record import field, record

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.procfs.mountinfo import Mount

V2 = ""
MODES = ("ignore", "none", "props", "soft", "full", "strict")
IGNORE, NONE, PROPS, SOFT, FULL, STRICT = MODES
_NAMED = "name="
_YARD_V2 = "unified"


class NoGroupError(ValueError):
    """A group can't be reached from here; the text says why."""


@record(frozen=True)
class Root:
    """`--cgroup-root [CTRL:]DIR`. `controller`: None for all that no other names."""

    controller: str | None
    path: str


Spec = tuple[tuple[str, str, tuple[str, ...]], ...]
"""Of `--cgroup-props`: controller, strategy (merge or replace), properties."""


@record(frozen=True, kw_only=True)
class GroupsAsked:
    """What a dump or a restore is asked to do about groups. `specs` and `controllers` (only these;
    none for all) are a dump's. `yard`: empty for the mounts."""

    mode: str = SOFT
    roots: tuple[Root, ...] = ()
    specs: tuple[Spec, ...] = ()
    controllers: tuple[str, ...] = ()
    yard: str = ""


DEFAULT_GROUPS = GroupsAsked()


def paths_of(data: bytes) -> dict[str, str]:
    """/proc/PID/cgroup as paths by hierarchy."""
    return {",".join(member.controllers): member.path for member in parse_cgroup(data)}


def root_for(roots: Iterable[Root], name: str) -> str:
    """The root that is asked for in a hierarchy, or an empty string."""
    for_all = ""
    for root in roots:
        if root.controller is None:
            for_all = root.path
        elif root.controller in name.split(","):
            return root.path
    return for_all


def is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top.rstrip("/") + "/")


def below(top: str, rest: str) -> str:
    """The path of `rest`, a relative one or nothing, below `top`."""
    return f"{top.rstrip('/')}/{rest}".rstrip("/") or "/"


@record
class Hierarchies:
    """Those that this process has. `own`: where it is itself, by hierarchy."""

    own: dict[str, str]
    yard: str = ""
    _mounts: list[Mount] = field(default_factory=list)

    @classmethod
    def here(cls, yard: str = "") -> Hierarchies:
        mounts = [
            mount
            for mount in parse_mountinfo(read_system("self/mountinfo"))
            if mount.fstype in ("cgroup", "cgroup2")
        ]
        return cls(paths_of(read_system("self/cgroup")), yard, mounts)

    def holding(self, name: str) -> str:
        """The hierarchy of this machine that has what `name`, of another one, has. Raises
        NoGroupError."""
        wanted = set(name.split(","))
        for known in self.own:
            if wanted <= set(known.split(",")):
                return known
        raise NoGroupError(f"this machine has no cgroup hierarchy {shown(name)}")

    def directory(self, name: str, path: str) -> Path:
        """The directory of the group `path`, which need not be there. Raises NoGroupError."""
        if "/../" in f"{path}/":
            raise NoGroupError("it is outside of ckpt's cgroup namespace")
        if self.yard:
            return Path(self.yard, _yard_name(name), path.lstrip("/"))
        for mount in reversed(self._mounts):
            if self._is_of(mount, name) and is_below(path, mount.root):
                rest = path.removeprefix(mount.root.rstrip("/"))
                return Path(mount.mountpoint, rest.lstrip("/"))
        raise NoGroupError(f"no mount of the cgroup hierarchy {shown(name)} shows it")

    def _is_of(self, mount: Mount, name: str) -> bool:
        if name == V2:
            return mount.fstype == "cgroup2"
        return mount.fstype == "cgroup" and set(name.split(",")) <= set(mount.super_options)


def _yard_name(name: str) -> str:
    return ",".join(part.removeprefix(_NAMED) for part in name.split(",")) or _YARD_V2


def shown(name: str) -> str:
    """A hierarchy's name for people."""
    return name or "of version 2"


def listed(directory: Path) -> list[Path]:
    """The groups right below a group."""
    with os.scandir(directory) as entries:
        return sorted(Path(e.path) for e in entries if e.is_dir(follow_symlinks=False))
