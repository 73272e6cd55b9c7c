"""Sets of semaphores and message queues of System V, as they are in a set of images.

ipcns-sem and ipcns-msg are CRIU's; ckpt-sysv has what they have no field for, and may be missing.

Source: semctl(2), msgctl(2), sysvipc(7); criu/ipc_ns.c of CRIU for the order of bytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, NamedTuple

from ckpt._native import lib
from ckpt.errors import ImageError
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ckpt.images.reader import ImageSet

SEM, MSG = int(lib.CKPT_SYSV_SEM), int(lib.CKPT_SYSV_MSG)
VALUE_MAX = 32767
"""SEMVMX and SEMAEM."""

_WORDS = {SEM: "System V semaphores", MSG: "System V message queue"}
_ID_MAX = (1 << 31) - 1
_TYPE_MAX = (1 << 63) - 1
_RECORD = struct.Struct("<qQ")
_U32 = struct.Struct("<I")

Images = list[tuple[str, list[Any]]]


def name(kind: int, ident: int, key: int | None = None) -> str:
    """How people call one."""
    return f"{_WORDS[kind]} {ident}" + ("" if key is None else f" (key {key:#010x})")


class Perm(NamedTuple):
    """Key, owner and creator, and the mode without flags."""

    key: int
    uid: int
    gid: int
    cuid: int
    cgid: int
    mode: int


class Undo(NamedTuple):
    """What process `pid` adds to semaphore `num` when it ends."""

    pid: int
    num: int
    adjustment: int


@record(frozen=True)
class Semaphores:
    """One set. `last`, as long as `values`: who has operated on each, 0 for nobody."""

    id: int
    perm: Perm
    values: tuple[int, ...]
    last: tuple[int, ...]
    undos: tuple[Undo, ...] = ()

    kind = SEM

    def __str__(self) -> str:
        return name(SEM, self.id, self.perm.key)

    @property
    def users(self) -> frozenset[int]:
        return frozenset(self.last) - {0}


@record(frozen=True)
class Queue:
    """One queue; `messages` are types and texts in their order."""

    id: int
    perm: Perm
    max_bytes: int
    messages: tuple[tuple[int, bytes], ...]
    sender: int = 0
    receiver: int = 0

    kind = MSG

    def __str__(self) -> str:
        return name(MSG, self.id, self.perm.key)

    @property
    def users(self) -> frozenset[int]:
        return frozenset((self.sender, self.receiver)) - {0}


Object = Semaphores | Queue


def packed(messages: Iterable[tuple[int, bytes]]) -> bytes:
    """Messages as ckpt_msg_fill takes them."""
    return b"".join(_RECORD.pack(kind, len(text)) + text for kind, text in messages)


def unpacked(raw: bytes) -> tuple[tuple[int, bytes], ...]:
    """Messages as ckpt_msg_read gives them."""
    found, at = [], 0
    while at < len(raw):
        kind, length = _RECORD.unpack_from(raw, at)
        at += _RECORD.size
        found.append((kind, raw[at : at + length]))
        at += length
    return tuple(found)


def images(objects: Sequence[Object], number: int) -> Images:
    """What a dump writes of `objects`, for the IPC namespace `number` of the images."""
    from ckpt.images.pb.ckpt_sysv_pb2 import ckpt_sysv_entry
    from ckpt.images.pb.ipc_msg_pb2 import ipc_msg_entry
    from ckpt.images.pb.ipc_sem_pb2 import ipc_sem_entry

    own = ckpt_sysv_entry()
    sets, queues = [], []
    for one in objects:
        if isinstance(one, Semaphores):
            nr = len(one.values)
            entry = ipc_sem_entry(nsems=nr)
            sets.append((_described(entry, one), struct.pack(f"<{nr}H", *one.values)))
            more = own.sets.add(id=one.id, last=one.last)
            for undo in one.undos:
                more.undo.add(pid=undo.pid, num=undo.num, adjustment=undo.adjustment)
        else:
            queue = ipc_msg_entry(qbytes=one.max_bytes, qnum=len(one.messages))
            queues.append((_described(queue, one), b"".join(map(_message, one.messages))))
            own.queues.add(id=one.id, sender=one.sender, receiver=one.receiver)
    named: Images = [(f"ipcns-sem-{number}", sets), (f"ipcns-msg-{number}", queues)]
    found = [(image, entries) for image, entries in named if entries]
    return [*found, ("ckpt-sysv", [own])] if found else []


def _described(entry: Any, one: Object) -> Any:
    desc, perm = entry.desc, one.perm
    desc.key, desc.uid, desc.gid, desc.cuid, desc.cgid, desc.mode = perm
    desc.id = one.id
    return entry


def _message(message: tuple[int, bytes]) -> bytes:
    from ckpt.images.pb.ipc_msg_pb2 import ipc_msg

    kind, text = message
    head = ipc_msg(mtype=kind, msize=len(text)).SerializeToString()
    return _U32.pack(len(head)) + head + text + bytes(-len(text) % 8)


def read_objects(images: ImageSet, number: int) -> tuple[Object, ...]:
    """The objects of the IPC namespace `number` of a set. Raises ImageError."""
    sets, queues = (
        images.read_payloads(image) if images.exists(image) else []
        for image in (f"ipcns-sem-{number}", f"ipcns-msg-{number}")
    )
    own = images.read_one("ckpt-sysv") if images.exists("ckpt-sysv") else None
    return objects_of(sets, queues, own)


def objects_of(
    sets: Iterable[tuple[Any, bytes]], queues: Iterable[tuple[Any, bytes]], own: Any = None
) -> tuple[Object, ...]:
    """What the images ipcns-sem and ipcns-msg, each message with its payload, and ckpt-sysv tell
    of. Raises ImageError."""
    more_sets = {one.id: one for one in own.sets} if own is not None else {}
    more_queues = {one.id: one for one in own.queues} if own is not None else {}
    found: list[Object] = [_set(entry, raw, more_sets) for entry, raw in sets]
    found += [_queue(entry, raw, more_queues) for entry, raw in queues]
    if len({(one.kind, one.id) for one in found}) < len(found):
        raise ImageError("has an id twice", resource="ipcns-sem.img or ipcns-msg.img")
    keys = [(one.kind, one.perm.key) for one in found if one.perm.key]
    if len(set(keys)) < len(keys):
        raise ImageError("has a key twice", resource="ipcns-sem.img or ipcns-msg.img")
    return tuple(found)


def _perm(kind: int, desc: Any) -> Perm:
    if desc.id > _ID_MAX:
        raise ImageError("has an id that can't be", resource=name(kind, desc.id))
    return Perm(desc.key, desc.uid, desc.gid, desc.cuid, desc.cgid, desc.mode & 0o777)


def _set(entry: Any, raw: bytes, more: Mapping[int, Any]) -> Semaphores:
    ident, nr = entry.desc.id, entry.nsems
    perm = _perm(SEM, entry.desc)
    values = struct.unpack_from(f"<{nr}H", raw)
    last, undos = (0,) * nr, []
    if ident in more:
        last = tuple(more[ident].last)
        undos = [Undo(u.pid, u.num, u.adjustment) for u in more[ident].undo]
    sane = (
        nr > 0
        and len(last) == nr
        and max(values) <= VALUE_MAX
        and all(u.num < nr and abs(u.adjustment) <= VALUE_MAX + 1 for u in undos)
    )
    if not sane:
        raise ImageError("makes no sense", resource=name(SEM, ident), why=f"{nr} semaphores")
    return Semaphores(ident, perm, values, last, tuple(undos))


def _queue(entry: Any, raw: bytes, more: Mapping[int, Any]) -> Queue:
    from ckpt.images.pb.ipc_msg_pb2 import ipc_msg

    ident = entry.desc.id
    perm = _perm(MSG, entry.desc)
    messages, at = [], 0
    for _ in range(entry.qnum):
        (size,) = _U32.unpack_from(raw, at)
        at += _U32.size
        head = ipc_msg.FromString(raw[at : at + size])
        at += size
        if not 0 < head.mtype <= _TYPE_MAX:
            raise ImageError("makes no sense", resource=name(MSG, ident), why="type of a message")
        messages.append((head.mtype, raw[at : at + head.msize]))
        at += head.msize + -head.msize % 8
    ends = (more[ident].sender, more[ident].receiver) if ident in more else (0, 0)
    return Queue(ident, perm, entry.qbytes, tuple(messages), *ends)
