"""`ckpt`, killed by SIGKILL where it is told to: before or after a call of one of its functions. Or
stopped by SIGSTOP before it, once.

    python -m tests.support.killedat MODULE:NAME before|after|stop|parent VERB OPTION ...

Of a method it is MODULE:CLASS.NAME. Whichever of its processes calls it first is killed, by itself.
With `parent`, the first of them is, and the one that called goes on when whoever that lets go has
had time for something.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import sys
from typing import Any

_MOMENT_S = 0.3


def _arm(where: str, when: str) -> None:
    module, _, path = where.partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    real = getattr(owner, name)
    first = os.getpid()

    def call(*args: Any, **named: Any) -> Any:
        if when == "stop":
            setattr(owner, name, real)
            os.kill(os.getpid(), signal.SIGSTOP)
            return real(*args, **named)
        if when == "parent":
            setattr(owner, name, real)
            os.kill(first, signal.SIGKILL)
            select.select([], [], [], _MOMENT_S)  # not to wait for it, but to let it happen
            return real(*args, **named)
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args, **named)
        os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, call)


if __name__ == "__main__":
    _arm(sys.argv[1], sys.argv[2])
    from ckpt.cli.invoke import invoke

    sys.exit(invoke(sys.argv[3:]))
