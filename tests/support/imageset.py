"""Looking at an image set as a whole: is it untouched, how big is it, what do its figures say."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


def fingerprint(images: Path) -> dict[str, str]:
    """What identifies each file of the set: size, mode, time of writing, content
    (of a link, where it leads).

    Without stats-restore, which a restore leaves beside them.
    """
    prints = {}
    for path in sorted(images.iterdir()):
        if path.name == "stats-restore":
            continue
        stat = path.lstat()
        content = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        digest = hashlib.blake2b(content).hexdigest()
        prints[path.name] = f"{stat.st_size} {stat.st_mode:o} {stat.st_mtime_ns} {digest}"
    return prints


def pages_size(images: Path) -> int:
    """Bytes of all pages-N.img together."""
    return sum(path.stat().st_size for path in images.glob("pages-*.img"))


def dump_stats(images: Path) -> Any:
    """The dump's message of stats-dump."""
    from ckpt.images.reader import ImageSet

    with ImageSet(images) as found:
        return found.read_one("stats-dump").dump
