"""Stable names for numbers that differ from run to run: inodes of pipes and of shared memory."""

from __future__ import annotations


class Tokens:
    """Gives every distinct thing of a kind its number in order of appearance."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, object], int] = {}
        self._count: dict[str, int] = {}

    def name(self, kind: str, thing: object) -> str:
        """ "KIND#N", the same for the same `thing`."""
        key = (kind, thing)
        if key not in self._known:
            self._count[kind] = self._count.get(kind, 0) + 1
            self._known[key] = self._count[kind]
        return f"{kind}#{self._known[key]}"
