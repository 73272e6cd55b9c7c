"""The generations of a store as `ckpt show` prints them: a line for each, the oldest first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.cli.output import human, printable, show
from ckpt.cli.stats import as_dict
from ckpt.errors import ImageError
from ckpt.images.layers import layer_of
from ckpt.images.reader import ImageSet
from ckpt.record import record
from ckpt.store.generations import generations, steady

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckpt.store.generations import Generation

_COLUMNS = ("NR", "TIME", "TASKS", "PAGES", "IN PARENT", "ON DISK", "BUILDS ON")


@record(frozen=True)
class Shown:
    """One generation. Sizes are in bytes. `parent`: number of the one that it builds on, None for
    none. `broken`: why it can't be restored, empty if nothing is known."""

    number: int
    time: str
    directory: str
    run_id: str = ""
    parent: int | None = None
    tasks: int = 0
    present: int = 0
    in_parent: int = 0
    on_disk: int = 0
    broken: str = ""


def show_store(directory: str, *, as_json: bool) -> None:
    """Raises ImageError if the store can't be read."""
    store = Path(directory)
    with steady(store):
        found = generations(store)
        names = {one.name: one.number for one in found}
        rows = [_shown(one, names) for one in found]
    if as_json:
        show(json.dumps({"generations": [as_dict(row) for row in rows]}))
    else:
        show(*_lines(directory, rows))


def _shown(generation: Generation, names: dict[str, int]) -> Shown:
    number, directory = generation.number, str(generation.path)
    time = generation.instant.isoformat(timespec="milliseconds")
    try:
        with ImageSet(generation.path, verify=False) as images:
            layer = layer_of(images)
    except ImageError as error:
        return Shown(number, time, directory, broken=str(error))
    parent = names.get(generation.parent)
    gone = generation.parent and parent is None
    return Shown(
        number,
        time,
        directory,
        layer.run_id,
        parent,
        layer.tasks,
        layer.present,
        layer.in_parent,
        layer.on_disk,
        f"{generation.parent}, which it builds on, is gone" if gone else "",
    )


def _lines(directory: str, rows: Sequence[Shown]) -> Iterator[str]:
    size = human(sum(row.on_disk for row in rows))
    yield f"{printable(directory)}: {len(rows)} generations, {size} on disk"
    table = [_COLUMNS, *map(_row, rows)]
    widths = [max(len(row[column]) for row in table) for column in range(len(_COLUMNS))]
    for row in table:
        cells = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
    for one in rows:
        if one.broken:
            yield f"generation {one.number} can't be restored: {printable(one.broken)}"


def _row(row: Shown) -> tuple[str, ...]:
    return (
        str(row.number),
        row.time.replace("T", " "),
        str(row.tasks),
        human(row.present),
        human(row.in_parent),
        human(row.on_disk),
        "-" if row.parent is None else str(row.parent),
    )
