"""Which shared memory of a set comes late: what may (ckpt.mem.missing.split), and is worth it: each
mapping of it costs a userfaultfd, and forks wait for all of it. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckpt.mem.missing.split import Share, shares
from ckpt.pstree.sharing import VM

if TYPE_CHECKING:
    from ckpt.restore.load import Loaded

_WORTH = 1 << 20
"""Bytes that are stored of it, at least."""


def shares_of(loaded: Loaded) -> dict[int, tuple[Share, ...]]:
    """By the task of each address space that has any. Raises ImageError."""
    owners = [pid for pid in loaded.tasks if loaded.sharing.first(VM, pid) == pid]
    found = shares(
        (loaded.tasks[pid].memory.vmas, loaded.tasks[pid].sealed_starts()) for pid in owners
    )
    late = {share.shmid for one in found for share in one}
    large = {shmid for shmid in late if _stored(loaded, shmid) >= _WORTH}
    kept = (tuple(share for share in one if share.shmid in large) for one in found)
    return {pid: one for pid, one in zip(owners, kept, strict=True) if one}


def _stored(loaded: Loaded, shmid: int) -> int:
    pieces = loaded.chain.resolve(f"pagemap-shmem-{shmid}")
    return sum(piece.end - piece.start for piece in pieces)
