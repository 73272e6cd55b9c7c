"""The kinds of descriptors that one dump or one restore has to do with, imported when they are met.

A dump meets a kind with the first descriptor of its format, most times while the tree still runs;
what its module imports costs the freeze some ms if it is only then. A restore knows all of them
from files.img.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from ckpt.files.registry import DUMP_KINDS, NEEDED, RESTORE_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckpt.files.dumping import DumpView
    from ckpt.files.kind import DumpKind, FdType, RestoreKind
    from ckpt.files.registry import Dumped
    from ckpt.files.restoring import RestoreView


class MetKinds:
    """Those of one dump: in the order of the registry, whenever they were met."""

    def __init__(self, view: DumpView) -> None:
        self._view = view
        self._met: dict[Dumped, DumpKind] = {}
        self._claimants: dict[int, Sequence[DumpKind]] = {}
        self._run_id: str | None = None
        self.claimants(stat.S_IFREG)

    def __iter__(self) -> Iterator[DumpKind]:
        return iter([self._met[one] for one in DUMP_KINDS if one in self._met])

    def of(self, wanted: FdType) -> Any:
        """The instance of the kind of this type, None if nothing like it was met."""
        return next((kind for kind in self._met.values() if kind.type is wanted), None)

    def claimants(self, form: int) -> Sequence[DumpKind]:
        """Who may claim a descriptor of this format (S_IFMT), in their order. Raises as `prepare`
        does, after that."""
        found = self._claimants.get(form)
        if found is None:
            found = [self._meet(one) for one in DUMP_KINDS if one.format in (None, form)]
            self._claimants[form] = found
        return found

    def prepare(self, run_id: str) -> None:
        """DumpKind.before_freeze of each, of those to come as well. Raises KernelError."""
        self._run_id = run_id
        for kind in self:
            kind.before_freeze(run_id)

    def _meet(self, one: Dumped) -> DumpKind:
        if one in self._met:
            return self._met[one]
        kind: DumpKind = one.load()(self._view)
        self._met[one] = self._view.kinds[type(kind)] = kind
        if self._run_id is not None:
            kind.before_freeze(self._run_id)
        return kind


def restore_kinds(view: RestoreView, entries: Iterable[Any]) -> list[RestoreKind]:
    """One of each kind that these entries of files.img are of, in the order of opening."""
    types = NEEDED.union(entry.type for entry in entries)
    return [one.load()(view) for one in RESTORE_KINDS if one.type in types]
