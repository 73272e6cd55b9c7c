"""Random chains against a model: what is restored, what can be built upon, what freeing costs."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from ckpt.errors import ImageError
from ckpt.images.chain import Chain
from ckpt.images.dedup import dedup
from ckpt.images.layers import layers_of
from ckpt.images.pagemap import PE_LAZY, PE_PARENT, PE_PRESENT, Run
from ckpt.images.parent import parent_of
from ckpt.units import PAGE
from tests.support.chain_sets import make_many, pages, read

if TYPE_CHECKING:
    from collections.abc import Iterator

NR_PAGES = 30
NAMES = ("pagemap-7", "pagemap-8", "pagemap-shmem-7")
SEED = 40


@dataclass
class Layer:
    """Of each image the pages of the set's own, in order, and those that are in its parent."""

    present: dict[str, list[int]]
    in_parent: dict[str, set[int]]


@st.composite
def chains(draw: st.DrawFn) -> list[Layer]:
    """The oldest first. A page is in the parent only if that has it."""
    found: list[Layer] = []
    for _ in range(draw(st.integers(1, 5))):
        layer = Layer({}, {})
        for name in draw(st.sets(st.sampled_from(NAMES))):
            before = found[-1] if found else Layer({}, {})
            below = set(before.present.get(name, ())) | before.in_parent.get(name, set())
            own = draw(st.sets(st.integers(0, NR_PAGES - 1), max_size=12))
            layer.present[name] = sorted(own)
            left = sorted(below - own)
            layer.in_parent[name] = draw(st.sets(st.sampled_from(left))) if left else set()
        found.append(layer)
    return found


def content(number: int, place: int) -> int:
    """What the page at this place of a pages file of set `number` holds."""
    return (SEED * number + place) % 256


def wanted(chain: list[Layer], number: int, name: str) -> dict[int, int]:
    """What set `number` restores: the model."""
    layer = chain[number]
    if name not in layer.present:
        return {}
    found = {p: content(number, i) for i, p in enumerate(layer.present[name])}
    if layer.in_parent[name]:
        below = wanted(chain, number - 1, name)
        found |= {page: below[page] for page in layer.in_parent[name]}
    return found


def owners(chain: list[Layer], number: int, name: str) -> dict[int, int]:
    """Which set holds each page that set `number` restores."""
    found = dict.fromkeys(chain[number].present.get(name, ()), number)
    for page in chain[number].in_parent.get(name, ()):
        found[page] = owners(chain, number - 1, name)[page]
    return found


def lost(chain: list[Layer], number: int) -> set[tuple[str, int]]:
    """Pages of set `number` that any newer one has, too."""
    return {
        (name, page)
        for name, own in chain[number].present.items()
        for page in own
        if any(page in newer.present.get(name, ()) for newer in chain[number + 1 :])
    }


def runs(layer: Layer, name: str) -> list[Run]:
    flags = dict.fromkeys(layer.in_parent[name], PE_PARENT)
    for page in layer.present[name]:
        flags[page] = PE_PRESENT | (PE_LAZY if page % 7 == 3 else 0)
    return [pages(page, 1, flags[page]) for page in sorted(flags)]


def build(folder: Path, chain: list[Layer]) -> None:
    for number, layer in enumerate(chain):
        make_many(
            folder / str(number),
            {name: runs(layer, name) for name in layer.present},
            f"../{number - 1}" if number else "",
            run_id=f"set {number}",
            parent_id=f"set {number - 1}" if number else None,
            seed=SEED * number,
        )


def restored(directory: Path) -> Iterator[tuple[str, dict[int, int]]]:
    with Chain(directory) as chain:
        chain.verify_pages().wait()
        for name in NAMES:
            if chain.layers[0].exists(name):
                yield name, {page: data[0] for page, data in read(chain, name).items()}


@settings(max_examples=80)
@given(chains())
def test_what_is_restored_and_built_upon(chain: list[Layer]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder, chain)
        for number, layer in enumerate(chain):
            found = dict(restored(folder / str(number)))
            assert found == {name: wanted(chain, number, name) for name in layer.present}
            parent = parent_of(folder / "0", f"../{number}")
            numbers = {
                name: {p for a, b in spans for p in range(a // PAGE, b // PAGE)}
                for name, spans in parent.ranges.items()
            }
            assert numbers == {name: set(pages) for name, pages in found.items()}
        shown, broken = layers_of(folder / str(len(chain) - 1))
        assert not broken
        newest = [owners(chain, len(chain) - 1, name) for name in NAMES]
        for number, layer_shown in enumerate(reversed(shown)):
            used = sum(list(one.values()).count(number) for one in newest)
            assert layer_shown.used == used * PAGE
            assert layer_shown.present == PAGE * sum(map(len, chain[number].present.values()))


@settings(max_examples=60)
@given(chains(), st.data())
def test_freeing(chain: list[Layer], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder, chain)
        # First for an older set, then for the newest: as --auto-dedup does round by round.
        for newest in sorted({data.draw(st.integers(0, len(chain) - 1)), len(chain) - 1}):
            freed = dedup(folder / str(newest))
            for number, one in enumerate(reversed(freed)):
                gone = lost(chain[: newest + 1], number)
                assert one.freed_in_all == len(gone) * PAGE
            found = dict(restored(folder / str(newest)))
            model = {name: wanted(chain, newest, name) for name in chain[newest].present}
            assert found == model
        for number, layer in enumerate(chain):
            needs = {
                (owner, name, page)
                for name in NAMES
                for page, owner in owners(chain, number, name).items()
            }
            fails = any((name, page) in lost(chain, owner) for owner, name, page in needs)
            try:
                found = dict(restored(folder / str(number)))
            except ImageError as error:
                assert fails, error
                assert "pages that are needed" in str(error)
            else:
                assert not fails
                assert found == {name: wanted(chain, number, name) for name in layer.present}
