"""On which NUMA nodes memory is wanted: policies of threads and of mappings.

A policy is only told from inside. Of a mapping get_mempolicy(2) tells its own (MPOL_F_ADDR), and
the default where it has none, whatever its thread's is; /proc/PID/numa_maps shows the thread's
there, and walks the page tables.

Restored before the memory is filled, so that its pages come from where they are wanted. Nodes that
this machine does not have are left out of a policy by the kernel; one that has no other is not
taken at all, and the memory comes from anywhere (`missing`).

Not guaranteed: home nodes (set_mempolicy_home_node(2)), which nothing tells. Of shared memory,
which has its policies by parts and for all who map it, each mapping's is that of its first page.

Source: get_mempolicy(2), set_mempolicy(2), mbind(2), mm/mempolicy.c (do_get_mempolicy).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ckpt.infect.batch import Batch, Data
from ckpt.infect.blob import layout_at
from ckpt.record import record

if TYPE_CHECKING:
    from ckpt.images.pb.ckpt_thread_pb2 import ckpt_thread_entry
    from ckpt.infect.batch import Outcome
    from ckpt.infect.session import Session
    from ckpt.units import Range

_DEFAULT = 0
_F_ADDR = 2
_RELATIVE_NODES = 1 << 14
NR_NODES = 448
"""As many as an answer has room for; the kernel wants no fewer than the machine may have."""

ANSWER_SIZE = 8 + NR_NODES // 8
_AT_ONCE = 500
_ONLINE = Path("/sys/devices/system/node/online")


class Policy(NamedTuple):
    """The mode with its flags, and the mask of nodes, as set_mempolicy(2) takes them."""

    mode: int = _DEFAULT
    nodes: int = 0

    def __bool__(self) -> bool:
        return self.mode != _DEFAULT


DEFAULT = Policy()


@record(frozen=True)
class Asked:
    """Where a thread's answer will be."""

    place: Data

    def policy(self, outcome: Outcome) -> Policy:
        return answer(outcome.read(self.place, ANSWER_SIZE))


def calls(at: int) -> list[tuple[str, tuple[int, ...]]]:
    """What a thread must call to tell its policy; its answer is ANSWER_SIZE bytes at `at`, zeros
    before."""
    return [("get_mempolicy", (at, at + 8, NR_NODES + 1, 0, 0))]


def ask(batch: Batch) -> Asked:
    """Add the question to the calling thread."""
    place = batch.space(ANSWER_SIZE)
    batch.call("get_mempolicy", place, place + 8, NR_NODES + 1, 0, 0, any_result=True)
    return Asked(place)


def answer(raw: bytes) -> Policy:
    """What the ANSWER_SIZE bytes of an answer say."""
    mode = int.from_bytes(raw[:4], "little")
    return Policy(mode, int.from_bytes(raw[8:], "little")) if mode else DEFAULT


# ---- mappings


@lru_cache(maxsize=1024)
def questions(starts: tuple[int, ...]) -> tuple[tuple[Batch, Data], ...]:
    """Batches that ask for the modes alone of mappings, 4 bytes each. Worth making before a target
    is frozen: they are the same then, unless its mappings changed."""
    made = []
    for first in range(0, len(starts), _AT_ONCE):
        some = starts[first : first + _AT_ONCE]
        batch = Batch()
        modes = batch.space(4 * len(some))
        for i, start in enumerate(some):
            batch.call("get_mempolicy", modes + 4 * i, 0, 0, start, _F_ADDR, any_result=True)
        like_any = layout_at(1 << 32, 1 << 20)
        batch.encode(like_any.batches.start, like_any.data)
        made.append((batch, modes))
    return tuple(made)


def of_mappings(session: Session, starts: Sequence[int]) -> dict[int, Policy]:
    """The policies of an infected task's mappings, by start; without those that have none."""
    found: dict[int, Policy] = {}
    at = 0
    for batch, modes in questions(tuple(starts)):
        outcome = session.run(batch)
        told = struct.unpack(f"<{len(batch)}I", outcome.read(modes, 4 * len(batch)))
        special = [start for start, mode in zip(starts[at:], told, strict=False) if mode]
        at += len(batch)
        for start in special:
            found[start] = _of_mapping(session, start)
    return {start: policy for start, policy in found.items() if policy}


def _of_mapping(session: Session, start: int) -> Policy:
    batch = Batch()
    place = batch.space(ANSWER_SIZE)
    batch.call("get_mempolicy", place, place + 8, NR_NODES + 1, start, _F_ADDR, any_result=True)
    return answer(session.run(batch).read(place, ANSWER_SIZE))


# ---- images


def fill(own: ckpt_thread_entry, policy: Policy) -> None:
    """Write a thread's policy into its message."""
    if policy:
        own.mempolicy, own.mempolicy_nodes = policy.mode, _packed(policy.nodes)


def fill_mappings(own: ckpt_thread_entry, policies: dict[int, Policy]) -> None:
    """Write those of mappings into the leader's message."""
    for start, policy in policies.items():
        own.bindings.add(start=start, mode=policy.mode, nodes=_packed(policy.nodes))


def check(own: ckpt_thread_entry) -> None:
    """Raises ValueError where a message holds policies that can't be."""
    of_thread(own)
    by_start(own)


def of_thread(own: ckpt_thread_entry | None) -> Policy:
    """The policy that an image gives a thread. Raises ValueError."""
    if own is None or not own.mempolicy:
        return DEFAULT
    return Policy(own.mempolicy, _mask(own.mempolicy_nodes))


def by_start(own: ckpt_thread_entry | None) -> dict[int, Policy]:
    """The policies that an image gives mappings. Raises ValueError."""
    if own is None:
        return {}
    return {one.start: Policy(one.mode, _mask(one.nodes)) for one in own.bindings}


def _packed(nodes: int) -> bytes:
    return nodes.to_bytes((nodes.bit_length() + 7) // 8, "little")


def _mask(raw: bytes) -> int:
    if len(raw) > NR_NODES // 8:
        raise ValueError(f"a policy for {8 * len(raw)} nodes")
    return int.from_bytes(raw, "little")


# ---- restore


def set_own(batch: Batch, policy: Policy) -> None:
    """Add the call that gives the calling thread `policy`, or takes its own away."""
    mask, size = _argument(batch, policy)
    batch.call("set_mempolicy", policy.mode, mask, size, any_result=True)


def bind(batch: Batch, where: Range, policy: Policy) -> None:
    """Add the call that gives the memory at `where` a policy of its own, or takes it away."""
    mask, size = _argument(batch, policy)
    batch.call(
        *("mbind", where.start, len(where), policy.mode, mask, size, 0),
        any_result=True,
        note=f"NUMA policy of {where}",
    )


def _argument(batch: Batch, policy: Policy) -> tuple[Data | int, int]:
    if not policy.nodes:
        return 0, 0
    return batch.put(policy.nodes.to_bytes(NR_NODES // 8, "little")), NR_NODES + 1


def parse_nodes(online: bytes) -> int:
    """The mask of a list like 0-3,8."""
    mask = 0
    for part in online.decode("ascii").strip().split(","):
        first, _, last = part.partition("-")
        if first:
            mask |= (1 << int(last or first) + 1) - (1 << int(first))
    return mask


def nodes_here() -> int:
    """The nodes of this machine; none, where the kernel knows of none."""
    try:
        return parse_nodes(_ONLINE.read_bytes())
    except OSError:
        return 0


def several_nodes() -> bool:
    """Whether it matters where memory comes from."""
    return nodes_here().bit_count() > 1


def missing(policies: Iterable[Policy], here: int) -> int:
    """The mask of nodes that these want by their numbers and are not among `here`."""
    wanted = 0
    for policy in policies:
        wanted |= 0 if policy.mode & _RELATIVE_NODES else policy.nodes
    return wanted & ~here


def numbers(mask: int) -> list[int]:
    """The nodes of a mask."""
    return [node for node in range(mask.bit_length()) if mask >> node & 1]
