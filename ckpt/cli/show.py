"""`ckpt show DIR`: what an image set holds, as a tree, and the chain below it, or the generations
of a store; with --json as one object.

Needs no privileges and not the machine of the dump. Names come out of the images, so everything
that a terminal could take for a command is escaped.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ckpt.cli.layers import layer_lines
from ckpt.cli.output import human, printable, show
from ckpt.cli.stats import as_dict
from ckpt.errors import UsageError
from ckpt.images.layers import layers_of
from ckpt.images.reader import ImageSet
from ckpt.images.summary import summarise
from ckpt.images.types import INVENTORY, file_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.cli.parser import Args
    from ckpt.images.summary import Summary, Task

_COLUMNS = ("PID", "PGID", "SID", "STATE", "THR", "MAPPED", "PAGES", "FDS", "COMMAND")


def run(args: Args) -> int:
    """Print the set or the store in the directory that `args` name."""
    if not args.operands:
        raise UsageError("names no directory", resource="show", hint="ckpt show DIR")
    if is_store(args.operands[0]):
        from ckpt.cli.store import show_store

        show_store(args.operands[0], as_json=args.json)
        return 0
    with ImageSet(args.operands[0]) as images:
        summary = summarise(images)
    layers, broken = layers_of(args.operands[0])
    if args.json:
        chain = {"layers": [as_dict(layer) for layer in layers], "broken": broken}
        show(json.dumps({**as_dict(summary), **chain}))
        return 0
    if sys.stdout.isatty():
        _show_table(summary)
    else:
        show(*plain_lines(summary))
    if lines := list(layer_lines(layers, broken)):
        show(*lines)
    return 0


def is_store(directory: str) -> bool:
    """Whether it is no image set, but a folder of generations."""
    folder = Path(directory)
    if (folder / file_name(INVENTORY)).exists() or not folder.is_dir():
        return False
    from ckpt.store.generations import generations

    return bool(generations(folder))


def plain_lines(summary: Summary) -> Iterator[str]:
    """The set as text: a head, the table of tasks, the descriptors of each."""
    yield from _head(summary)
    rows = [_COLUMNS, *(_row(task) for task in summary.tasks)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    for row in rows:
        cells = [
            cell.ljust(width) if column in (3, 8) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
    for task in summary.tasks:
        yield from _details(task)


def _show_table(summary: Summary) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    for line in _head(summary):
        console.print(Text(line, style="bold"))
    table = Table(box=None, header_style="bold cyan")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("STATE", "COMMAND") else "right")
    for task in summary.tasks:
        table.add_row(*(Text(cell) for cell in _row(task)))
    console.print(table)
    for task in summary.tasks:
        for line in _details(task):
            console.print(Text(line), soft_wrap=True)


def _head(summary: Summary) -> Iterator[str]:
    sums = "with checksums" if summary.verified else "without checksums"
    size = human(summary.size)
    yield f"{printable(summary.directory)}: {summary.files} images, {size}, {sums}"
    if summary.run_id:
        yield f"dump {printable(summary.run_id)}"
    if summary.parent:
        yield f"builds on {printable(summary.parent)}"
    if summary.shared_memory:
        yield f"shared memory: {human(summary.shared_memory)}"


def _row(task: Task) -> tuple[str, ...]:
    return (
        str(task.pid),
        str(task.pgid),
        str(task.sid),
        task.state or "?",
        str(len(task.threads)),
        human(task.memory.mapped),
        human(task.memory.present),
        str(len(task.descriptors)),
        "  " * task.depth + printable(task.comm or "?"),
    )


def _details(task: Task) -> Iterator[str]:
    if not (task.exe or task.cwd or task.descriptors):
        return
    yield ""
    yield f"{task.pid} {printable(task.comm)}: {printable(task.exe)}, in {printable(task.cwd)}"
    memory = task.memory
    elsewhere = [
        f"{human(size)} {where}"
        for size, where in ((memory.in_parent, "in the parent set"), (memory.lazy, "to be fetched"))
        if size
    ]
    pages = ", ".join([f"{human(memory.present)} here", *elsewhere])
    yield f"  {memory.mappings} mappings, {human(memory.mapped)}; pages: {pages}"
    for one in task.descriptors:
        yield f"  {one.fd:>5} {one.kind:<9} {printable(one.text)}"
