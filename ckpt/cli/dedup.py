"""`ckpt dedup`: free what the newest set of a chain has newer pages for.

As CRIU's: --images-dir is the newest set, its parents are found by the links. What it costs the
parents is told in ckpt.images.dedup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.cli.output import human, printable, show
from ckpt.cli.stats import as_dict
from ckpt.images.dedup import dedup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckpt.cli.parser import Args
    from ckpt.images.dedup import Freed


def run(args: Args) -> int:
    """Free, and tell how much, set by set."""
    layers = dedup(args.images_dir)
    if args.json:
        import json

        total = sum(layer.freed for layer in layers)
        show(json.dumps({"freed": total, "layers": [as_dict(layer) for layer in layers]}))
    else:
        show(*_lines(layers))
    return 0


def _lines(layers: Sequence[Freed]) -> Iterator[str]:
    if len(layers) == 1:
        yield f"{printable(layers[0].directory)} builds on no other set: nothing to free"
        return
    for layer in layers[1:]:
        yield (
            f"{printable(layer.directory)}: {human(layer.freed)} freed, "
            f"{human(layer.freed_in_all)} in all"
        )
    yield f"{human(sum(layer.freed for layer in layers))} freed"
