"""The chain of a set as `ckpt show` prints it: a line for each set, the newest first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.cli.output import human, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckpt.images.layers import Layer

_COLUMNS = ("LAYER", "UPTIME", "TASKS", "PAGES", "IN PARENT", "USED", "FREED", "ON DISK")


def layer_lines(layers: Sequence[Layer], broken: str) -> Iterator[str]:
    """Nothing for a set that stands alone and is whole. `broken`: why it can't be restored."""
    if len(layers) > 1:
        yield ""
        yield f"chain of {len(layers)} sets, the newest first; USED is what that one takes"
        rows = [_COLUMNS, *(_row(*one) for one in enumerate(layers))]
        widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
        names = ["DUMP", *(_name(layer) for layer in layers)]
        for row, name in zip(rows, names, strict=True):
            cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            yield "  ".join((*cells, name))
    if broken:
        yield ""
        yield f"can't be restored: {printable(broken)}"


def _row(number: int, layer: Layer) -> tuple[str, ...]:
    return (
        str(number),
        _uptime(layer.dump_uptime_us),
        str(layer.tasks),
        human(layer.present),
        human(layer.in_parent),
        "?" if layer.used is None else human(layer.used),
        human(layer.freed),
        human(layer.on_disk),
    )


def _name(layer: Layer) -> str:
    return f"{printable(layer.run_id or '?')} in {printable(layer.directory)}"


def _uptime(us: int) -> str:
    """How long the machine had been up: hours, minutes, seconds."""
    if not us:
        return "?"
    minutes, seconds = divmod(us / 1e6, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{seconds:06.3f}"
