"""Control groups of a restore, in `with`: made, joined, set, and taken back if it fails.

1. Groups that are missing are made, from the top, with what must be set while they are empty.
2. Each task joins its own when it is born, so that its memory is charged there; a child that
   belongs to another group than its creator is moved at once.
3. Threads that are in a group of their own are moved when all exist, and the other properties are
   set, right before the tasks are let go.
4. `keep` when they run. Else the scope's end writes old values back and removes what was made: the
   tasks must be ended by then.

Modes are CRIU's: none and props want the groups to be there; props, full and strict set properties
in any case, soft only in what it has made; strict wants them not to be there.

Not guaranteed: who kills ckpt itself in the middle leaves the empty groups that were made.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING, Self

from ckpt.errors import RestoreError
from ckpt.ns import cgroup_props
from ckpt.ns.cgroup_props import BEFORE_TASKS
from ckpt.ns.cgroups import (
    FULL,
    NONE,
    PROPS,
    STRICT,
    V2,
    Hierarchies,
    NoGroupError,
    paths_of,
    shown,
)
from ckpt.procfs.reader import read_system
from ckpt.record import field, record

if TYPE_CHECKING:
    from pathlib import Path

    from ckpt.ns.cgroup_image import Group, GroupsImage, Perms
    from ckpt.report import Report

_WANT_THEM = (NONE, PROPS)
_ALWAYS_SET = (PROPS, FULL, STRICT)
_INHERITED = ("cpuset.cpus", "cpuset.mems")
_REMOVE_TIMEOUT_S = 10.0


@record
class GroupsRestore:
    """`wanted`: the set of each task and thread that is to be in another one than ckpt's."""

    image: GroupsImage
    wanted: dict[int, int]
    mode: str
    yard: str
    report: Report
    _here: Hierarchies = field(init=False)
    _made: list[Path] = field(default_factory=list)
    _before: list[tuple[Path, str, str]] = field(default_factory=list)
    _to_set: list[tuple[Group, Path]] = field(default_factory=list)

    @property
    def needed(self) -> bool:
        return bool(self.wanted)

    def lines(self) -> list[str]:
        """The plan for people."""
        return [
            f"task {tid}: cgroup {shown(name)} {path}"
            for tid, number in self.wanted.items()
            for name, path in self.image.sets[number].items()
        ]

    def __enter__(self) -> Self:
        if not self.needed:
            return self
        self._here = Hierarchies.here(self.yard)
        try:
            self._make_all()
        except BaseException:
            self._take_back()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._take_back()

    def keep(self) -> None:
        """The tasks run: what was made and set stays."""
        self._made.clear()
        self._before.clear()

    # ---- groups

    def _make_all(self) -> None:
        recorded = {(g.hierarchy, g.path) for g in self.image.groups}
        joined = {
            member for number in self.wanted.values() for member in self.image.sets[number].items()
        }
        used = {name for name, _ in joined}
        for group in self.image.groups:
            if group.hierarchy not in used and not used & set(group.hierarchy.split(",")):
                continue
            directory = self._directory(group.hierarchy, group.path)
            if self.mode in _WANT_THEM and not directory.is_dir():
                continue
            self._make_recorded(group, directory)
        for name, path in sorted(joined):
            directory = self._directory(name, path)
            if directory.is_dir():
                continue
            if self.mode in _WANT_THEM:
                raise RestoreError(
                    "there is no such cgroup",
                    resource=f"{name}:{path}",
                    why=f"--manage-cgroups={self.mode} makes none",
                    hint="make it, or take --manage-cgroups=soft",
                )
            assert (name, path) not in recorded
            self._make(name, directory)

    def _make_recorded(self, group: Group, directory: Path) -> None:
        there = directory.is_dir()
        if there and self.mode == STRICT:
            raise RestoreError(
                "the cgroup is there already",
                resource=f"{group.hierarchy}:{group.path}",
                why="--manage-cgroups=strict makes all anew",
                hint="remove it, or take --manage-cgroups=soft",
            )
        if not there:
            self._make(group.hierarchy, directory)
        elif self.mode not in _ALWAYS_SET:
            return
        self._chown(directory, group.perms)
        for name, value, perms in group.props:
            if name in BEFORE_TASKS:
                self._set(directory, name, value, perms)
        self._to_set.append((group, directory))

    def _make(self, name: str, directory: Path) -> None:
        if not directory.parent.is_dir():
            self._make(name, directory.parent)
        try:
            directory.mkdir(mode=0o755)
        except OSError as error:
            raise _failed("the cgroup can't be made", directory, error) from error
        self._made.append(directory)
        if "cpuset" in name.split(","):
            for prop in _INHERITED:
                value = cgroup_props.read(directory.parent, prop)
                if value and not cgroup_props.read(directory, prop):
                    self._set(directory, prop, value, None)

    def _directory(self, name: str, path: str) -> Path:
        try:
            return self._here.directory(self._here.holding(name), path)
        except NoGroupError as error:
            raise RestoreError(
                "the cgroup can't be reached",
                resource=f"{name}:{path}",
                why=str(error),
                hint="--manage-cgroups=ignore, or --cgroup-yard",
            ) from error

    def _set(self, directory: Path, name: str, value: str, perms: Perms | None) -> None:
        """Raises RestoreError."""
        before = cgroup_props.read(directory, name)
        if before is None and not (directory / name).exists():
            self.report.warn(f"cgroup property {directory / name} is not there: left out")
            return
        if before is not None and directory not in self._made:
            self._before.append((directory, name, before))
        self._chown(directory / name, perms)
        try:
            cgroup_props.write(directory, name, value)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                self.report.info(f"cgroup property {directory / name} can't be set any more")
                return
            raise _failed(f"can't be set to {value!r}", directory / name, error) from error

    def _chown(self, path: Path, perms: Perms | None) -> None:
        if perms is None or not path.exists():
            return
        now = path.stat()
        try:
            if (now.st_uid, now.st_gid) != (perms.uid, perms.gid):
                os.chown(path, perms.uid, perms.gid)
            if now.st_mode & 0o7777 != perms.mode:
                path.chmod(perms.mode)
        except OSError as error:
            raise _failed("its owner can't be set", path, error) from error

    # ---- tasks

    def join(self, pid: int) -> None:
        """A task has just been born, with one thread: it goes where it belongs."""
        if not self.needed:
            return
        members = self._members(pid)
        for name, path in paths_of(read_system(f"{pid}/cgroup")).items():
            goal = members.get(name, self._here.own[name])
            if goal != path:
                self._move(pid, self._directory(name, goal) / "cgroup.procs")

    def _members(self, tid: int) -> dict[str, str]:
        """By the hierarchies of this machine."""
        members = self.image.sets[self.wanted[tid]] if tid in self.wanted else {}
        return {self._here.holding(name): path for name, path in members.items()}

    def settle(self, threads: dict[int, list[int]]) -> None:
        """Step 3. `threads`: the further ones of each task."""
        if not self.needed:
            return
        for pid, tids in threads.items():
            for tid in tids:
                if self.wanted.get(tid) != self.wanted.get(pid):
                    self._move_thread(pid, tid)
        for group, directory in self._to_set:
            later = [prop for prop in group.props if prop[0] not in BEFORE_TASKS]
            self._set_in_some_order(directory, later)

    def _move_thread(self, pid: int, tid: int) -> None:
        members = self._members(tid)
        for name, path in paths_of(read_system(f"{pid}/task/{tid}/cgroup")).items():
            goal = members.get(name, self._here.own[name])
            if goal != path:
                file = "cgroup.threads" if name == V2 else "tasks"
                self._move(tid, self._directory(name, goal) / file)

    def _move(self, tid: int, file: Path) -> None:
        try:
            file.write_text(str(tid))
        except OSError as error:
            raise _failed(f"task {tid} can't join the cgroup", file.parent, error) from error

    def _set_in_some_order(
        self, directory: Path, props: list[tuple[str, str, Perms | None]]
    ) -> None:
        """Some limits bound each other, and which is first depends on the values: what was refused
        is tried again after the rest."""
        refused = []
        for prop in props:
            try:
                self._set(directory, *prop)
            except RestoreError:
                refused.append(prop)
        for prop in refused:
            self._set(directory, *prop)

    # ---- back

    def _take_back(self) -> None:
        for directory, name, value in reversed(self._before):
            try:
                cgroup_props.write(directory, name, value)
            except OSError as error:
                why = error.strerror or str(error)
                self.report.warn(f"{directory / name} is not {value!r} again: {why}")
        until = time.monotonic() + _REMOVE_TIMEOUT_S
        for directory in reversed(self._made):
            self._remove(directory, until)
        self.keep()

    def _remove(self, directory: Path, until: float) -> None:
        """Killed tasks leave their group only when they are gone."""
        while True:
            try:
                return directory.rmdir()
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > until:
                    return self.report.warn(f"{directory} is left behind: {error.strerror}")
            time.sleep(0.002)


def _failed(what: str, path: Path, error: OSError) -> RestoreError:
    return RestoreError(what, resource=str(path), why=error.strerror or str(error))
