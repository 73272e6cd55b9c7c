"""What a verb that serves says to who has started it: --pidfile, --status-fd, and a line on
standard output."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from ckpt.cli.output import show
from ckpt.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from ckpt.cli.parser import Args


def tell_where(args: Args, where: tuple[str, int] | None) -> None:
    """The pidfile, and the address and port that it listens on, unless its socket was given."""
    pidfile = args.values.get("pidfile")
    if pidfile is not None:
        write_pidfile(args.work_dir / pidfile)
    if where is not None:
        args.report.info(f"listening on {where[0]} port {where[1]}")
        show(_as_json(where) if args.json else f"listening on {where[0]} port {where[1]}")


def _as_json(where: tuple[str, int]) -> str:
    return json.dumps({"address": where[0], "port": where[1], "pid": os.getpid()})


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
