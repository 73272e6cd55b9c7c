"""Which control groups the tasks of a tree are in, as cgroup.img says it.

Sets are numbered from 1, which is ckpt's own: it is not in the image, and who is in it comes back
in the set of `ckpt restore`. Every other set names the hierarchies where its tasks are elsewhere
than ckpt. Groups that hold tasks of the tree are recorded with all below them and their properties.

What a thread's group is, is read while the tree stands; what a group is like, after that: groups
belong to the machine, which goes on. The root of a hierarchy has nothing that can be restored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import KernelError
from ckpt.images.pb.cgroup_pb2 import cgroup_entry
from ckpt.images.text import set_text
from ckpt.ns import cgroup_props
from ckpt.ns.cgroups import (
    IGNORE,
    GroupsAsked,
    Hierarchies,
    NoGroupError,
    is_below,
    listed,
    paths_of,
)
from ckpt.ns.cgroups import root_for as asked_root
from ckpt.record import field, record

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ckpt.images.pb.cgroup_pb2 import cgroup_dir_entry, cgroup_perms

OWN_SET = 1
_MAX_DEPTH = 48
_Set = tuple[tuple[str, str], ...]


@record
class GroupsDump:
    """The sets of one dump, numbered as they are met."""

    asked: GroupsAsked
    here: Hierarchies
    _numbers: dict[_Set, int] = field(default_factory=lambda: {(): OWN_SET})

    @classmethod
    def begin(cls, asked: GroupsAsked) -> GroupsDump:
        return cls(asked, Hierarchies.here(asked.yard))

    def number(self, data: bytes) -> int:
        """The set of a task or thread, by its file in /proc."""
        return self._numbers.setdefault(self._members(data), len(self._numbers) + 1)

    def obstacles(self, data: bytes) -> Iterable[tuple[str, str]]:
        """Groups that a restore could not give back: which, and why."""
        for name, path in self._members(data):
            try:
                if not self.here.directory(name, path).is_dir():
                    yield f"cgroup {name}:{path}", "it is not there (a dead one?)"
            except NoGroupError as error:
                yield f"cgroup {name}:{path}", str(error)

    def _members(self, data: bytes) -> _Set:
        if self.asked.mode == IGNORE:
            return ()
        own, only = self.here.own, set(self.asked.controllers)
        return tuple(
            (name, path)
            for name, path in paths_of(data).items()
            if own.get(name) != path and (not only or only & set(name.split(",")))
        )

    def image(self) -> cgroup_entry:
        """All sets that were numbered, and what their groups are like. Raises KernelError."""
        entry = cgroup_entry()
        groups: dict[str, set[str]] = {}
        for members, number in self._numbers.items():
            if number == OWN_SET:
                continue
            added = entry.sets.add(id=number)
            for name, path in members:
                groups.setdefault(name, set()).add(path)
                set_text(added.ctls.add(name=name, path=""), "path", path)
        for name, paths in groups.items():
            controller = entry.controllers.add(cnames=name.split(","))
            props = cgroup_props.recorded(name, self.asked.specs)
            for top in self._tops(name, paths):
                try:
                    directory = self.here.directory(name, top)
                    _fill(controller.dirs.add(), directory, top.lstrip("/"), props)
                except (OSError, NoGroupError) as error:
                    raise KernelError(
                        "a cgroup can't be read", resource=f"{name}:{top}", why=str(error)
                    ) from error
        return entry

    def _tops(self, name: str, paths: set[str]) -> Sequence[str]:
        """The highest groups to record: those of tasks, or the root that was asked for."""
        asked = asked_root(self.asked.roots, name)
        wanted = {asked if asked and is_below(path, asked) else path for path in paths} - {"/"}
        return [p for p in sorted(wanted) if not any(is_below(p, q) for q in wanted - {p})]


def _fill(
    entry: cgroup_dir_entry, directory: Path, name: str, props: list[str], depth: int = 0
) -> None:
    set_text(entry, "dir_name", name)
    _perms(entry.dir_perms, directory)
    for prop in props:
        value = cgroup_props.read(directory, prop)
        if value is not None:
            added = entry.properties.add(name=prop, value=value)
            _perms(added.perms, directory / prop)
    if depth < _MAX_DEPTH:
        for child in listed(directory):
            _fill(entry.children.add(), child, child.name, props, depth + 1)


def _perms(perms: cgroup_perms, path: Path) -> None:
    found = path.stat()
    perms.mode, perms.uid, perms.gid = found.st_mode, found.st_uid, found.st_gid
