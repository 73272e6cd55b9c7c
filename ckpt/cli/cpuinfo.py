"""`ckpt cpuinfo dump|check`: this CPU into cpuinfo.img, or compared with one.

Whether a tree could go on here is known before it is moved: `check` needs nothing but the one file.
Without --cpu-cap the comparison is of `fpu` and `ins`; `none` writes and compares nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from ckpt.cli.output import show
from ckpt.errors import ImageError, UsageError
from ckpt.images import directory, framing
from ckpt.kerndat.cpu import IMAGE, from_message, mismatches, this_cpu, to_message
from ckpt.kerndat.cpufeature import DEFAULT_CPU_CAP

if TYPE_CHECKING:
    from pathlib import Path

    from ckpt.cli.parser import Args
    from ckpt.images.pb.cpuinfo_pb2 import cpuinfo_entry

_NAME = "cpuinfo"
_LARGEST = 1 << 20


def run(args: Args) -> int:
    """`dump`: 0. `check`: 0 if what ran there can run here, 1 if not."""
    caps = DEFAULT_CPU_CAP if args.cpu_cap is None else args.cpu_cap
    match args.operands:
        case ("dump",):
            return dump(args.images_dir, caps)
        case ("check",):
            return check(args.images_dir, caps)
    raise UsageError("say dump or check", resource="cpuinfo", hint="ckpt cpuinfo dump -D DIR")


def dump(images_dir: Path, caps: frozenset[str]) -> int:
    """Write the image, in place of an older one. With no capability asked for, nothing."""
    if not caps:
        return 0
    directory.write_image(images_dir, _NAME, [to_message(this_cpu())])
    return 0


def check(images_dir: Path, caps: frozenset[str]) -> int:
    """Print what differs; ImageError for an image that is missing or damaged."""
    if not caps:
        return 0
    dir_lfd = directory.open_directory(str(images_dir))
    try:
        lfd = directory.open_existing(dir_lfd, IMAGE, str(images_dir / IMAGE))
        try:
            data = directory.read_all(lfd, _LARGEST, str(images_dir / IMAGE))
        finally:
            os.close(lfd)
    finally:
        os.close(dir_lfd)
    records = framing.decode(_NAME, data, str(images_dir / IMAGE))
    if len(records) != 1:
        raise ImageError("holds no CPU", resource=str(images_dir / IMAGE))
    found = mismatches(from_message(cast("cpuinfo_entry", records[0].message)), this_cpu(), caps)
    for line in found:
        show(line)
    return 1 if found else 0
