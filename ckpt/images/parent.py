"""The set that a new one builds on: who it is, and which pages it can answer for.

A page may be left out of the new set, as "in parent", only if the chain below really holds it. What
counts is therefore the resolved chain, not what the newest pagemap there says.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.images.chain import MAX_DEPTH, Chain
from ckpt.images.pagemap import PE_PRESENT
from ckpt.images.spans import joined
from ckpt.record import record

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable

    from ckpt.images.chain import Piece, Resolver
    from ckpt.images.spans import Spans


@record(frozen=True)
class ParentSet:
    """`path` as it was given, relative to the new set's directory, and `run_id`: what
    ImageSetWriter.link_parent takes. `ranges`: by image name ("pagemap-7") the pages that the
    chain holds, as (start, end), ascending, neither touching nor overlapping. `dump_uptime_us`: the
    inventory's, 0 if it has none. `full`: its chain has as many sets as one may have."""

    path: str
    run_id: str
    dump_uptime_us: int
    ranges: dict[str, Spans]
    full: bool = False


def parent_of(
    directory: str | os.PathLike[str],
    prev: str,
    *,
    verify: bool = True,
    pages_only: bool = False,
    resolver: Resolver | None = None,
) -> ParentSet:
    """Look at the set `prev`, relative to the images directory `directory`.

    With `pages_only` it may be one without inventory, as a page server makes it. `resolver`: as
    that of a Chain.

    Raises ImageError if there is none, or its chain is damaged or lacks pages that it should have:
    nothing can be built on it then.
    """
    prev_dir = Path(directory, prev)
    with Chain(prev_dir, verify=verify, pages_only=pages_only, resolver=resolver) as chain:
        newest = chain.layers[0]
        return ParentSet(
            path=prev,
            run_id=newest.inventory.dump_criu_run_id,
            dump_uptime_us=newest.inventory.dump_uptime,
            ranges={name: _merged(chain.resolve(name)) for name in chain.page_images()},
            full=len(chain.layers) >= MAX_DEPTH,
        )


def _merged(pieces: Iterable[Piece]) -> Spans:
    return joined((piece.start, piece.end) for piece in pieces if piece.flags & PE_PRESENT)
