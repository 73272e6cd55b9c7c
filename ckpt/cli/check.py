"""`ckpt check`: what this kernel and our privileges let ckpt do, one line for each feature.

Everything is tried and told. The exit code speaks of what every dump and restore needs; --extra
makes what only some trees need count as well, --experimental what ckpt can't use yet. With
--feature the exit code is the answer for this one, and `list` names all: CRIU's words and codes, so
that a script or runtime may ask. --tree asks of a tree instead (ckpt.cli.check_tree).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.cli.output import show
from ckpt.errors import UsageError
from ckpt.kerndat.probe import Finding, Need, State
from ckpt.kerndat.registry import by_name, find, probes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.cli.parser import Args
    from ckpt.kerndat.probe import Probe

Answer = tuple["Probe", Finding]
_COLUMN = 29
LIST = "list"


def run(args: Args) -> int:
    """0 if all that counts is there, 1 if not. Raises UsageError for an unknown name."""
    if args.operands:
        raise UsageError(
            "takes no operand", resource=args.operands[0], hint="ckpt check --feature NAME"
        )
    if args.tree is not None:
        from ckpt.cli.check_tree import run as check_tree

        return check_tree(args)
    if args.feature == LIST:
        show(_as_json(sorted(by_name())) if args.json else "\n".join(sorted(by_name())))
        return 0
    if args.feature is not None:
        return _one(args.feature, as_json=args.json)
    counting = {Need.HOST}
    if args.extra or args.all:
        counting |= {Need.TREE, Need.BETTER}
    if args.experimental or args.all:
        counting.add(Need.LATER)
    answers = [(one, one.run()) for one in probes()]
    good = all(found.supported for one, found in answers if one.need in counting)
    if args.json:
        show(_as_json({"ok": good, "features": [as_fields(*answer) for answer in answers]}))
    else:
        show("\n".join((*as_lines(answers), "", verdict(answers))))
    return 0 if good else 1


def _one(name: str, *, as_json: bool) -> int:
    asked = find(name)
    found = asked.run()
    if as_json:
        show(_as_json(as_fields(asked, found)))
    else:
        why = f": {found.detail}" if found.detail and found.state is not State.OK else ""
        show(f"{name} is {'' if found.supported else 'not '}supported{why}")
    return 0 if found.supported else 1


def as_lines(answers: Sequence[Answer]) -> list[str]:
    """The table: a head for each need, a line for each feature."""
    lines: list[str] = []
    for need in Need:
        lines += ["", f"For {need.value}:"] if lines else [f"For {need.value}:"]
        lines += [_line(one, found) for one, found in answers if one.need is need]
    return lines


def _line(one: Probe, found: Finding) -> str:
    told = found.detail
    if found.state is State.MISSING:
        told = f"{told}; without it: {one.loss}" if told else f"without it: {one.loss}"
    return f"  {found.state.value:8} {one.name:{_COLUMN}} {told}".rstrip()


def verdict(answers: Sequence[Answer]) -> str:
    """The last line, which begins as CRIU's does."""
    lost = [one.name for one, found in answers if not found.supported]
    vital = [one.name for one, found in answers if not found.supported and one.need is Need.HOST]
    if vital:
        return f"Does not look good: every dump and restore needs {', '.join(vital)}."
    if not lost:
        return "Looks good."
    return f"Looks good, but {len(lost)} features are missing that some trees may need."


def as_fields(one: Probe, found: Finding) -> dict[str, object]:
    """One feature for --json."""
    return {
        "name": one.name,
        "state": found.state.value,
        "detail": found.detail,
        "needed_for": one.need.value,
        "purpose": one.purpose,
        "lost_without": one.loss,
        "names": list(one.names),
    }


def _as_json(value: object) -> str:
    import json

    return json.dumps(value, indent=2)
