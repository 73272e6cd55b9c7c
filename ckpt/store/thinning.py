"""Which generations of a store are merged: the policy alone, without a file.

The newest `keep` generations stay. Below them, those that hold much less than what they stand on
are merged into the newest of them, so that what is left gets larger and rarer with its age: a page
is copied a number of times that grows with the logarithm of the chain, never once for each
generation. Each of those that are left can be restored. `keep` leaves room for them: a chain has at
most 256 sets (ckpt.images.chain).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Sequence

_MUCH_LESS = 2


@record(frozen=True)
class Held:
    """A generation as thinning sees it: bytes of its own pages, and the name of its parent, empty
    for none."""

    name: str
    size: int
    parent: str


@record(frozen=True)
class Plan:
    """`unneeded` can go: nothing that stays builds on them. Then `merged` goes into `into`, which
    builds on the first of them, that on the next."""

    unneeded: tuple[str, ...] = ()
    into: str = ""
    merged: tuple[str, ...] = ()


def plan(held: Sequence[Held], keep: int) -> Plan:
    """The next step for these generations, the oldest first; an empty plan where there is none."""
    by_name = {one.name: one for one in held}
    kept = held[max(0, len(held) - keep) :]
    needed: set[str] = set()
    for one in kept:
        needed.update(_below(one, by_name), (one.name,))
    unneeded = tuple(one.name for one in held if one.name not in needed)
    if not kept:
        return Plan()
    below = _below(kept[0], by_name)
    nr = _nr_merged([by_name[name].size for name in below])
    if not nr:
        return Plan(unneeded)
    return Plan(unneeded, below[0], tuple(below[1 : nr + 1]))


def _below(one: Held, by_name: dict[str, Held]) -> list[str]:
    """What a generation builds on, the newest first; as far as it is there."""
    found: list[str] = []
    while (name := one.parent) in by_name and name not in found:
        found.append(name)
        one = by_name[name]
    return found


def _nr_merged(sizes: Sequence[int]) -> int:
    """How many of the sets behind the first go into it."""
    nr = total = 0
    for index, size in enumerate(sizes):
        if index and size <= _MUCH_LESS * total:
            nr = index
        total += size
    return nr
