"""Standard output. A reader that has gone must not turn a dump that succeeded into a failure."""

from __future__ import annotations

import os
import sys


def show(*lines: str) -> None:
    """Prints whole lines at once and flushes. After a broken pipe nothing is printed any more."""
    try:
        print(*lines, sep="\n", flush=True)
    except BrokenPipeError:
        # Python flushes once more at its exit; that must find a place to go to.
        null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
