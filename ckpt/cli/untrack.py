"""`ckpt untrack PID`: the writes of a tree are tracked no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.cli.operand import pid_of
from ckpt.cli.output import show
from ckpt.errors import TargetError

if TYPE_CHECKING:
    from ckpt.cli.parser import Args


def run(args: Args) -> int:
    """0 once nothing of the tracking is left; TargetError where there is none."""
    pid = pid_of(args)
    from ckpt.dump.increment import end

    if not end(pid):
        raise TargetError("its writes are not tracked", pid=pid)
    if args.json:
        show(f'{{"untracked": {pid}}}')
    return 0
