"""`ckpt diff A B`: which mappings of two image sets differ, and in how many pages; with --json as
one object. Needs no privileges and not the machine of the dump.

Names come out of the images, so everything that a terminal could take for a command is escaped.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ckpt.cli.output import printable, show
from ckpt.errors import UsageError
from ckpt.images.chain import Chain
from ckpt.images.diff import diff
from ckpt.mem.compare import compare
from ckpt.mem.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckpt.cli.parser import Args
    from ckpt.images.diff import MappingDiff, MemoryDiff


def run(args: Args) -> int:
    """0, whether they differ or not."""
    if len(args.operands) != 2:
        hint = "ckpt diff DIR DIR, the older set first"
        raise UsageError("needs two directories", resource="diff", hint=hint)
    a, b = args.operands
    with (
        Chain(a, verify=args.checksums, resolver=resolve) as older,
        Chain(b, verify=args.checksums, resolver=resolve) as newer,
    ):
        found = diff(older, newer, compare)
    if args.json:
        show(json.dumps(_as_dict(found)))
    else:
        show(*_lines(found))
    return 0


def _lines(found: list[MemoryDiff]) -> Iterator[str]:
    for one in found:
        yield from _memory(one)
    total = sum(one.pages for one in found)
    yield f"{total} pages differ" if total else "no page differs"


def _memory(one: MemoryDiff) -> Iterator[str]:
    name = f"shared memory {one.number}" if one.shared else f"pid {one.number}"
    if one.in_a != one.in_b:
        yield f"{name}: only in {'A' if one.in_a else 'B'}, {one.pages} pages"
        return
    if not one.mappings:
        yield f"{name}: the same"
        return
    yield f"{name}: {len(one.mappings)} of {one.nr_mappings} mappings differ, {one.pages} pages"
    rows = [(_place(row), _perms(row), _counts(row), _what(row)) for row in one.mappings]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=False))
        yield f"  {'  '.join((*cells, row[3]))}".rstrip()


def _place(row: MappingDiff) -> str:
    return "all" if row.end > 1 << 63 else f"{row.start:x}-{row.end:x}"


def _perms(row: MappingDiff) -> str:
    if row.a and row.b:
        return row.a.perms if row.a.perms == row.b.perms else f"{row.a.perms} > {row.b.perms}"
    return f"- {row.a.perms}" if row.a else f"+ {row.b.perms}" if row.b else ""


def _counts(row: MappingDiff) -> str:
    named = (("changed", row.changed), ("only in A", row.only_a), ("only in B", row.only_b))
    return ", ".join(f"{nr} {name}" for name, nr in named if nr) or "no pages"


def _what(row: MappingDiff) -> str:
    named = [one.what for one in (row.a, row.b) if one and one.what]
    return printable(named[-1]) if named else ""


def _as_dict(found: list[MemoryDiff]) -> dict[str, Any]:
    return {
        "pages": sum(one.pages for one in found),
        "tasks": [_memory_dict(one, "pid") for one in found if not one.shared],
        "shared_memory": [_memory_dict(one, "id") for one in found if one.shared],
    }


def _memory_dict(one: MemoryDiff, number: str) -> dict[str, Any]:
    return {
        number: one.number,
        "in_a": one.in_a,
        "in_b": one.in_b,
        "pages": one.pages,
        "nr_mappings": one.nr_mappings,
        "mappings": [_mapping_dict(row) for row in one.mappings],
    }


def _mapping_dict(row: MappingDiff) -> dict[str, Any]:
    return {
        "start": row.start,
        "end": row.end,
        "perms_a": row.a.perms if row.a else None,
        "perms_b": row.b.perms if row.b else None,
        "what": _what(row),
        "changed": row.changed,
        "only_a": row.only_a,
        "only_b": row.only_b,
    }
