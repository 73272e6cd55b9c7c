"""Service files: figures of a dump or restore, kept in the work directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.images.directory import write_image

if TYPE_CHECKING:
    from pathlib import Path

    from google.protobuf.message import Message


def write_service(work_dir: Path, name: str, message: Message) -> None:
    """Write `name` ("stats-dump") into `work_dir`, in place of an older one.

    Raises ImageError if that can't be done.
    """
    write_image(work_dir, name, [message])
