"""A chain that has as many sets as one may have gets no other on top: it could not be restored."""

from __future__ import annotations

from pathlib import Path

from ckpt.images.chain import MAX_DEPTH, Chain
from tests.property.changing_tree import Tree, memory_differs
from tests.support import chain_sets
from tests.support.case import Case
from tests.support.chain import Sets


def lengthened(sets: Sets, folder: Path) -> None:
    """Put sets below the newest, until its chain is as long as can be."""
    folder.mkdir()
    for number in range(1, MAX_DEPTH):
        parent = f"../{number - 1}" if number > 1 else ""
        chain_sets.make(folder / str(number), [], parent)
    (sets.path / "parent").symlink_to(folder / str(MAX_DEPTH - 1))
    with Chain(sets.path) as chain:
        assert len(chain.layers) == MAX_DEPTH


def test_full_chain(case: Case) -> None:
    tree = Tree(case)
    tree.map(0, "anonymous", 0, 0, 64)
    tree.fill(0, (0, 0, 64), 1, "fill")
    sets = Sets(case.folder / "chain", tree.pid, "async")
    sets.pre_dump()
    lengthened(sets, case.folder / "below")
    tree.fill(0, (0, 5, 9), 1, "fill")
    sets.pre_dump()
    assert sets.report.said("is not built upon"), sets.report.warnings
    assert not (sets.path / "parent").exists() and not sets.in_parent
    sets.dump()
    assert sets.in_parent
    tree.wait_gone()
    sets.restore()
    assert not memory_differs(tree.all[0])
