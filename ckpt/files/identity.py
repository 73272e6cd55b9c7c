"""Which descriptors share one open file description (dup, fork, SCM_RIGHTS).

kcmp(2) tells, and is asked only where everything else that a description has is equal: file,
position, flags; of eventfds, which all have one inode, the number of their own. All these processes
must stand still: only then is equal position a must.

Source: kcmp(2). Its order is stable while the kernel runs, so n of one group cost n log n calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt._native import check, ffi, lib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckpt.files.descriptor import Descriptor


def same_files(descriptors: Sequence[Descriptor]) -> list[int]:
    """For each descriptor the index of the first one that has the same description.

    Raises OSError: kcmp wants ptrace rights over all of these processes.
    """
    first = list(range(len(descriptors)))
    groups: dict[tuple[int, int, int, int, int, bytes], list[int]] = {}
    for index, d in enumerate(descriptors):
        key = (d.dev, d.ino, d.pos, d.flags, d.mode, _number(d.info))
        groups.setdefault(key, []).append(index)
    for members in groups.values():
        if len(members) > 1:
            _split(descriptors, members, first)
    return first


def _number(info: bytes) -> bytes:
    """Of an eventfd, since Linux 5.2; empty for all else."""
    _, _, rest = info.partition(b"eventfd-id:")
    return rest.partition(b"\n")[0]


def _split(descriptors: Sequence[Descriptor], members: list[int], first: list[int]) -> None:
    slots = ffi.new(
        "struct ckpt_slot[]", [(descriptors[i].pid, descriptors[i].fd) for i in members]
    )
    same = ffi.new("uint32_t[]", len(members))
    check(lib.ckpt_same_files(slots, len(members), same), "kcmp")
    for position, index in enumerate(members):
        first[index] = members[same[position]]
