"""The operand of the verbs that take a pid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.cli import values
from ckpt.errors import UsageError

if TYPE_CHECKING:
    from ckpt.cli.parser import Args


def pid_of(args: Args) -> int:
    """Raises UsageError where it is missing or none."""
    verb = args.verb
    if not args.operands:
        raise UsageError("the pid is missing", resource=verb, hint=f"ckpt {verb} PID")
    try:
        return values.pid(args.operands[0])
    except ValueError as error:
        raise UsageError("is no pid", resource=args.operands[0], why=f"{error}") from error
