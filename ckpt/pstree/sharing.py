"""What processes share beyond open files: nothing but clone(2) passes it on.

Pure: a dump makes it from what kcmp(2) says, a restore from the numbers of `ids-PID.img`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


class Kind(NamedTuple):
    """`field` of `task_kobj_ids_entry`, flag of clone(2), type of kcmp(2), words for people."""

    field: str
    flag: int
    kcmp: int
    what: str


CLONE_VM, CLONE_FS, CLONE_FILES, CLONE_SIGHAND = 0x100, 0x200, 0x400, 0x800
VM = Kind("vm_id", CLONE_VM, 1, "memory")
FILES = Kind("files_id", CLONE_FILES, 2, "descriptor table")
FS = Kind("fs_id", CLONE_FS, 3, "root and working directory")
SIGHAND = Kind("sighand_id", CLONE_SIGHAND, 4, "signal actions")
KINDS = (VM, FILES, FS, SIGHAND)

Ids = dict[Kind, int]


class Sharing:
    """The numbers of what each live task of a tree uses; equal ones are shared. Those whom it does
    not know (the dead, helpers) share nothing. Raises ValueError where there can be no such tree:
    clone(2) shares signal actions only together with memory."""

    def __init__(self, ids: Mapping[int, Ids] | None = None) -> None:
        self._ids = dict(ids or {})
        self._first: dict[tuple[Kind, int], int] = {}
        for pid, own in self._ids.items():
            for kind, number in own.items():
                first = self._first.setdefault((kind, number), pid)
                if kind is SIGHAND and first != pid and not self.shared(VM, first, pid):
                    raise ValueError(f"pid {first} and pid {pid} share signal actions, no memory")

    def ids(self, pid: int) -> Ids:
        """The numbers of one task; empty for one that it does not know."""
        return self._ids.get(pid, {})

    def first(self, kind: Kind, pid: int) -> int:
        """Of those who share `kind` with `pid`, the one that comes first in the tree."""
        own = self._ids.get(pid)
        return pid if own is None else self._first[kind, own[kind]]

    def shared(self, kind: Kind, one: int, other: int) -> bool:
        """Whether both have the same."""
        return self.first(kind, one) == self.first(kind, other)

    def between(self, creator: int, pid: int) -> int:
        """The flags of clone(2) by which `pid` gets all that it shares with its creator."""
        return sum(kind.flag for kind in KINDS if self.shared(kind, creator, pid))

    def groups(self, kind: Kind) -> Iterator[list[int]]:
        """Those who share one, in the tree's order; everybody is in one group."""
        found: dict[int, list[int]] = {}
        for pid in self._ids:
            found.setdefault(self.first(kind, pid), []).append(pid)
        yield from found.values()


ALONE = Sharing()


def numbered(groups: Mapping[Kind, Iterable[Iterable[int]]], pids: Iterable[int]) -> Sharing:
    """The sharing in which each task has the number of its place among `pids`, from 1, or that of
    the first of a group of `groups` that it is in."""
    place = {pid: number for number, pid in enumerate(pids, 1)}
    ids: dict[int, Ids] = {pid: dict.fromkeys(KINDS, number) for pid, number in place.items()}
    for kind, of_kind in groups.items():
        for group in of_kind:
            members = sorted(group, key=lambda pid: place[pid])
            for pid in members:
                ids[pid][kind] = place[members[0]]
    return Sharing(ids)
