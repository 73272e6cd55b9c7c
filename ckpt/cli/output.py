"""Standard output, and how values look on it. A reader that has gone must not turn a dump that
succeeded into a failure."""

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


def human(size: int) -> str:
    """A number of bytes with a unit of 1024: 1536 is `1.5 KiB`."""
    amount = float(size)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def printable(text: str) -> str:
    """`text` with everything escaped that is not to be printed: controls, stray bytes."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
