"""Whose controlling terminal is which, as /proc/PID/stat of the tree's tasks tells it.

Terminals are numbered as stat does it; `given` are those that a restore can give to a session.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.errors import Refusal
from ckpt.procfs.tty import pts_index

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from ckpt.procfs.stat import Stat

_REFUSED = (
    "its leader is in the tree and has a controlling terminal whose other end is outside",
    "dump a tree that holds what made the terminal, or the job without its shell; or give it "
    "another terminal at restore (--external 'tty[RDEV:DEV]')",
)


def session_on(stats: Mapping[int, Stat], number: int) -> int:
    """The session of a task of the tree that has the terminal `number`; 0 if none has."""
    number &= 0xFFFF_FFFF
    found = (s.session for s in stats.values() if number and s.tty_nr & 0xFFFF_FFFF == number)
    return next(found, 0)


def leader(stats: Mapping[int, Stat], number: int, given: Container[int]) -> int:
    """Who in the tree leads the session of the terminal `number`, if that is `given`; or 0."""
    number &= 0xFFFF_FFFF
    if not number or number not in given:
        return 0
    leaders = (p for p, s in stats.items() if s.session == p and s.tty_nr & 0xFFFF_FFFF == number)
    return next(leaders, 0)


def lost_leaders(
    stats: Mapping[int, Stat], masters: Iterable[int | None], given: Container[int]
) -> Iterator[Refusal]:
    """Leaders of sessions whose controlling terminal nobody could give them again."""
    known = set(masters)
    for pid, seen in stats.items():
        if not seen.tty_nr or seen.session != pid or leader(stats, seen.tty_nr, given):
            continue
        if pts_index(seen.tty_nr) not in known:
            yield Refusal(pid, f"session {pid}", *_REFUSED)
