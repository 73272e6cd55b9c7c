"""Small worlds, all of them: each way in which a few tasks can hold the ends of a pipe or of a pair
of sockets, alone and duplicated, in tables of their own and in shared ones.

One run of the victim (tests/victims/topology/ends.c) holds all arrangements at the same time, so a
case is a tree of tasks. The victim itself finds out whether exactly the same ends are connected,
what waits in them, which descriptors are of one description, and that there are no others.
"""

from __future__ import annotations

import pytest

from tests.support.case import Case
from tests.support.programs import program

TREES = {
    "one task": "",
    "child": "0f",
    "child, one table": "0t",
    "two children": "0f0f",
    "chain": "0f1f",
    "child, and one of the same table": "0t0f",
    "grandchild of the same table": "0f1t",
    "siblings of one table": "0f1s",
    "chain of one table": "0t1t",
    "a table of the child and its children": "0f1t1t",
    "two tables of two": "0t0f2s",
}
KINDS = "psdq"
"""Pipes; stream, datagram and seqpacket pairs."""


def survives(case: Case, tree: str, *arguments: str, cycles: int = 1) -> str:
    """Dump, restore, let the victim judge; what it says."""
    victim = case.start(program("topology/ends", tree, *arguments))
    for _ in range(cycles):
        case.dump_and_restore(victim, [], [], [])
    victim.finish(timeout_s=120)
    return victim.out


@pytest.mark.parametrize(("tree", "step"), [("0t", 1), ("0f1s", 7), ("0f1f", 97)], ids=str)
def test_some_arrangements(case: Case, tree: str, step: int) -> None:
    """Each `step`th; which of them is another one for each tree."""
    survives(case, tree, KINDS, "2", str(step), str(len(tree) % step))


@pytest.mark.stress
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tree", TREES.values(), ids=TREES)
def test_every_arrangement(case: Case, tree: str, kind: str) -> None:
    """Up to two descriptors of each end in each table; twice, for what comes back goes again."""
    tables = 1 + tree.count("f")
    out = survives(case, tree, kind, "2", cycles=2)
    assert f"{3 ** (2 * tables) - 1} objects, {1 + len(tree) // 2} tasks, {tables} tables" in out
