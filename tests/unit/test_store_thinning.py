"""Which generations are merged: what stays, how much is copied, how long a chain gets."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from ckpt.record import replace
from ckpt.store.thinning import Held, plan


def thinned(held: list[Held], keep: int) -> tuple[list[Held], int]:
    """What a store comes to, and how many bytes were copied for it."""
    copied = 0
    while True:
        todo = plan(held, keep)
        held = [one for one in held if one.name not in todo.unneeded]
        if not todo.into:
            return held, copied
        by_name = {one.name: one for one in held}
        parts = [by_name[name] for name in (todo.into, *todo.merged)]
        assert [one.parent for one in parts[:-1]] == [one.name for one in parts[1:]]
        size = max(sum(one.size for one in parts[:-1]), parts[-1].size)
        copied += size
        whole = replace(parts[0], size=size, parent=parts[-1].parent)
        held = [whole if one is parts[0] else one for one in held if one not in parts[1:]]


@pytest.mark.parametrize("keep", [1, 2, 20])
@pytest.mark.parametrize("seed", range(5))
def test_a_long_life(keep: int, seed: int) -> None:
    """A page is copied a few times in its life, never once for each generation."""
    chance = random.Random(seed)
    held: list[Held] = []
    copied = written = 0
    for number in range(500):
        size = 10_000 if not number else chance.choice([1, 10, 100])
        held.append(Held(str(number), size, held[-1].name if held else ""))
        written += size
        before = held[-keep:]
        held, more = thinned(held, keep)
        copied += more
        assert held[-keep:] == before or keep == 1, "what is kept stays as it is"
        assert [one.name for one in held[-keep:]] == [one.name for one in before]
        assert all(a.name == b.parent for a, b in pairwise(held))
        assert len(held) <= keep + 20
    assert copied <= 12 * written


def test_nothing_to_do() -> None:
    assert plan([], 3) == plan([Held("1", 5, "")], 1)
    assert not plan([Held("1", 5, ""), Held("2", 5, "1")], 2).into
    assert not plan([Held("1", 500, ""), Held("2", 5, "1"), Held("3", 5, "2")], 1).into


def test_what_nothing_builds_on_goes() -> None:
    """A chain that was begun anew: the old one goes when none of it is kept."""
    old = [Held("1", 5, ""), Held("2", 5, "1")]
    new = [Held("3", 5, ""), Held("4", 5, "3")]
    assert plan([*old, *new], 2).unneeded == ("1", "2")
    assert plan([*old, *new], 3).unneeded == ()
    # A parent that is not there, or the thing itself, is none.
    assert plan([Held("1", 5, "0"), Held("2", 5, "2")], 1).unneeded == ("1",)
