"""The kernel's own code in the tasks: it must be the one that they were dumped with."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from ckpt.errors import RestoreError
from ckpt.infect.place import Memory, vdso_used
from ckpt.restore.load import vdso_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckpt.restore.load import Loaded, TaskImage


def check_vdsos(loaded: Loaded, verify: Callable[[], None]) -> None:
    """Raises RestoreError. `verify` raises ImageError where pages are rotten, which is looked at
    only where something differs."""
    for image in loaded.tasks.values():
        _check(loaded, image, verify)


def _check(loaded: Loaded, image: TaskImage, verify: Callable[[], None]) -> None:
    """The dumped vdso must be the one that this kernel maps: code may stand in the middle of it.
    What stands behind its end is nobody's: a parasite whose cure failed may have left its traces.
    """
    for addr, dumped in vdso_bytes(loaded, image).items():
        with closing(Memory(image.task.pid)) as memory:
            here = memory.read(addr, len(dumped))
            used = vdso_used(memory, addr) or len(dumped)
        if here[:used] != dumped[:used]:
            verify()
            sure = all(layer.has_sums for layer in loaded.chain.layers)
            raise RestoreError(
                "its vdso is of another kernel",
                pid=image.task.pid,
                why="" if sure else "or its pages are damaged, which no checksum tells",
                hint="restore it on the kernel that it was dumped on",
            )
