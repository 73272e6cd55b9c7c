"""What a verb that serves says to who has started it: --pidfile and --status-fd."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def write_pidfile(path: Path) -> None:
    """Our pid in decimal; the file must not exist."""
    try:
        lfd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(
            "the pidfile can't be made", resource=f"{path}", why=error.strerror or ""
        ) from error
    try:
        os.write(lfd, str(os.getpid()).encode())
    finally:
        os.close(lfd)


def write_status(lfd: int) -> None:
    """A zero byte, and the end of the descriptor."""
    try:
        os.write(lfd, b"\0")
        os.close(lfd)
    except OSError as error:
        raise UsageError(
            "can't be written", resource=f"--status-fd {lfd}", why=error.strerror or ""
        ) from error
