"""`ckpt check --tree PID`: what would keep a dump from being made, named while the tree runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ckpt.cli.judged import judged_by
from ckpt.cli.output import printable, show
from ckpt.dump.options import DumpOptions
from ckpt.errors import RefusedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.cli.parser import Args
    from ckpt.errors import Refusal

_HEAD = ("pid", "what", "why", "would help")


def run(args: Args) -> int:
    """0 if nothing is in the way, 3 if something is. Raises TargetError, KernelError."""
    if args.feature is not None:
        raise UsageError("asks of the kernel, not of a tree", resource="--feature")
    options = DumpOptions(**judged_by(args))
    # Only now: what the orchestrators import takes longer than everything up to here.
    from ckpt.dump.survey import survey

    found = survey(options, args.report)
    if args.json:
        show(as_json(args.tree, found))
    else:
        show(*as_lines(args.tree, found))
    return RefusedError.exit_code if found else 0


def as_json(tree: int, found: Sequence[Refusal]) -> str:
    refusals = [
        {"pid": one.pid, "resource": one.resource, "why": one.why, "hint": one.hint}
        for one in found
    ]
    return json.dumps({"ok": not found, "tree": tree, "refusals": refusals}, indent=2)


def as_lines(tree: int, found: Sequence[Refusal]) -> list[str]:
    """A table without an end of columns, and the verdict."""
    if not found:
        return [f"Looks good: nothing is in the way of a dump of pid {tree}."]
    rows = [_HEAD, *((str(one.pid), one.resource, one.why, one.hint or "-") for one in found)]
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(_HEAD))]
    table = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]
    things = "1 thing is" if len(found) == 1 else f"{len(found)} things are"
    return [*table, "", f"Does not look good: {things} in the way of a dump of pid {tree}."]
