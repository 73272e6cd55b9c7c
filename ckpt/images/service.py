"""Service files: figures of a dump or restore, kept in the work directory."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ckpt.images import framing

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message


def write_service(work_dir: Path, name: str, message: Message) -> None:
    """Write `name` ("stats-dump") into `work_dir`, in place of an older one."""
    data = framing.encode(name, [message])
    made = work_dir / f".{name}.tmp"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    lfd = os.open(made, flags, 0o600)
    try:
        os.write(lfd, data)
    finally:
        os.close(lfd)
    made.replace(work_dir / name)
