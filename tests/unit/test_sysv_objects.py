"""Sets of semaphores and message queues of System V: in images, and what is tried on them."""

from __future__ import annotations

import errno
from typing import Any

import pytest

from ckpt.errors import ImageError
from ckpt.images import framing
from ckpt.ns import sysv_objects as objects
from ckpt.ns import sysv_undo as undo
from ckpt.record import replace

PERM = objects.Perm(7, 1, 2, 3, 4, 0o640)
UNDOS = (objects.Undo(5, 1, -3), objects.Undo(6, 0, 32767))
SET = objects.Semaphores(32769, PERM, (1, 32767, 0), (5, 6, 0), UNDOS)
MESSAGES = ((1, b""), ((1 << 63) - 1, b"text of 11\n"), (2, b"x" * 8))
QUEUE = objects.Queue(0, PERM._replace(key=0), 9000, MESSAGES, 5, 6)


def read_back(*wanted: objects.Object) -> tuple[objects.Object, ...]:
    """Through the bytes of the images."""
    found: dict[str, Any] = {"ipcns-sem-3": [], "ipcns-msg-3": [], "ckpt-sysv": []}
    for name, messages in objects.images(wanted, 3):
        records = framing.decode(name, framing.encode(name, messages))
        found[name] = [(record.message, bytes(record.payload)) for record in records]
    own = found["ckpt-sysv"][0][0] if found["ckpt-sysv"] else None
    return objects.objects_of(found["ipcns-sem-3"], found["ipcns-msg-3"], own)


def test_images() -> None:
    assert read_back(SET, QUEUE) == (SET, QUEUE)
    assert read_back(QUEUE) == (QUEUE,)
    assert objects.images([], 3) == []
    assert objects.unpacked(objects.packed(MESSAGES)) == MESSAGES


def test_without_what_is_ours() -> None:
    """A set of CRIU's has no record of users."""
    (_, sets), (_, queues), _ = objects.images([SET, QUEUE], 3)
    values = objects.objects_of(sets, queues)
    assert [one.users for one in values] == [frozenset(), frozenset()]
    assert values[0].perm == PERM


@pytest.mark.parametrize(
    "wrong",
    [
        (SET, SET),
        (SET, replace(SET, id=1)),
        (replace(SET, id=1 << 31),),
        (replace(SET, values=(), last=(), undos=()),),
        (replace(SET, values=(32768, 0, 0)),),
        (replace(SET, last=(1, 2)),),
        (replace(SET, undos=(objects.Undo(5, 3, 1),)),),
        (replace(SET, undos=(objects.Undo(5, 0, 32769),)),),
        (replace(QUEUE, messages=((0, b"x"),)),),
        (replace(QUEUE, messages=((1 << 63, b"x"),)),),
    ],
    ids=["twice", "key", "id", "empty", "value", "users", "number", "amount", "no-type", "type"],
)
def test_hostile(wrong: tuple[objects.Object, ...]) -> None:
    with pytest.raises(ImageError, match=r"System V|ipcns"):
        read_back(*wrong)


def semop(ops: list[undo.Op], value: int, adjustment: int) -> tuple[int, int, int]:
    """What the kernel does (ipc/sem.c): result, value, adjustment of one semaphore."""
    now, adjusted = value, adjustment
    for _, op, flags in ops:
        assert flags & undo.IPC_NOWAIT and op and -32768 <= op <= 32767
        now += op
        if now < 0:
            return -errno.EAGAIN, value, adjustment
        if now > 32767:
            return -errno.ERANGE, value, adjustment
        if flags & undo.SEM_UNDO:
            adjusted -= op
            if not -32768 <= adjusted <= 32767:
                return -errno.ERANGE, value, adjustment
    return 0, now, adjusted


VALUES = (0, 1, 2, 16383, 16384, 32766, 32767)
ADJUSTMENTS = (-32768, -32767, -16384, -2, -1, 0, 1, 2, 16384, 32766, 32767)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("adjustment", ADJUSTMENTS)
def test_trials_tell_and_change_nothing(value: int, adjustment: int) -> None:
    for asked in (*ADJUSTMENTS, -32766, 3, 777):
        if not asked:
            continue
        result, *state = semop(undo.trial(0, value, asked), value, adjustment)
        holds = adjustment >= asked if asked > 0 else adjustment <= asked
        assert result == (-errno.ERANGE if holds else -errno.EAGAIN)
        assert state == [value, adjustment]


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("adjustment", ADJUSTMENTS)
def test_given_adjustments(value: int, adjustment: int) -> None:
    now = 0
    for ops in undo.giving(0, value, adjustment):
        result, after, now = semop(ops, value, now)
        assert (result, after) == (0, value)
    assert now == adjustment
    result, after, now = semop(undo.touching(0, value), value, now)
    assert (result, after, now) == (0, value, adjustment)
