"""What a task gives back to semaphores when it ends (SEM_UNDO): asked without changing anything.

No call of the kernel tells the adjustments. But semop(2) refuses, with ERANGE, what would take one
out of its range, and does all operations of a call or none. So a task is made to try a call that
can't succeed: first the semaphore is brought to where there is room, then the adjustment is shifted
so far that it leaves its range if it is as large as is asked, and the last operation can't be done
in any case: ERANGE says yes, EAGAIN no. At no instant does anybody see another value, last user or
time, and whoever is killed midway has changed nothing. A binary search gives the number.

The task gets an empty list for a set of which it had none; nothing comes of that.

The way back is one call that takes as much from a semaphore as it gives, one of the two with
SEM_UNDO.

Source: semop(2); perform_atomic_semop_slow() and exit_sem() in ipc/sem.c.
"""

from __future__ import annotations

import errno
import struct
from typing import TYPE_CHECKING

from ckpt.errors import KernelError
from ckpt.infect.batch import Batch
from ckpt.ns.sysv_objects import VALUE_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckpt.infect.session import Session

IPC_NOWAIT, SEM_UNDO = 0o4000, 0x1000
_NR_AT_ONCE = 1000
_LARGEST = VALUE_MAX + 1
"""Of a negative adjustment, and of one operation downwards."""

Op = tuple[int, int, int]
"""struct sembuf: number, operation, flags."""


def call_semop(batch: Batch, ident: int, ops: Sequence[Op], *, any_result: bool = False) -> None:
    """Add one semop(2) to a batch."""
    raw = batch.put(b"".join(struct.pack("<Hhh", *op) for op in ops))
    batch.call("semop", ident, raw, len(ops), any_result=any_result, note=f"semaphores {ident}")


def trial(num: int, value: int, at_least: int) -> list[Op]:
    """Operations that fail with ERANGE if the adjustment is `at_least` or more, for a negative
    number if it is that or less; with EAGAIN if not. `value` is that of the semaphore."""
    if at_least > 0:
        shift = [(num, at_least - _LARGEST, SEM_UNDO)]
        room = VALUE_MAX - value
    else:
        by = _LARGEST + 1 + at_least
        shift = [(num, min(by, VALUE_MAX), SEM_UNDO)]
        if by > VALUE_MAX:
            shift += [(num, -VALUE_MAX, 0), (num, by - VALUE_MAX, SEM_UNDO)]
        room = -value
    first = [(num, room, 0)] if room else []
    ops = [*first, *shift, (num, -_LARGEST, 0)]
    return [(n, op, flags | IPC_NOWAIT) for n, op, flags in ops]


def ask(session: Session, ident: int, values: Sequence[int]) -> dict[int, int]:
    """The adjustments that are not 0 of the task of `session`, by the number of the semaphore, for
    a set that has these `values` all the while. Raises KernelError where the task may not operate
    on the set."""
    nums = range(len(values))
    above = _try(session, ident, values, dict.fromkeys(nums, 1))
    below = _try(session, ident, values, dict.fromkeys(nums, -1))
    # The adjustment is at least `low`, and less than `high`, away from 0.
    low = {num: 1 for num in nums if above[num] or below[num]}
    high = dict.fromkeys(low, _LARGEST + 1)
    sign = {num: 1 if above[num] else -1 for num in low}
    while open_ones := [num for num in low if high[num] - low[num] > 1]:
        middle = {num: (low[num] + high[num]) // 2 for num in open_ones}
        wanted = {n: sign[n] * m for n, m in middle.items() if sign[n] * m <= VALUE_MAX}
        found = _try(session, ident, values, wanted)
        for num in open_ones:
            if found.get(num, False):
                low[num] = middle[num]
            else:
                high[num] = middle[num]
    return {num: sign[num] * distance for num, distance in low.items()}


def _try(
    session: Session, ident: int, values: Sequence[int], wanted: Mapping[int, int]
) -> dict[int, bool]:
    found = {}
    nums = list(wanted)
    for first in range(0, len(nums), _NR_AT_ONCE):
        some = nums[first : first + _NR_AT_ONCE]
        batch = Batch()
        for num in some:
            call_semop(batch, ident, trial(num, values[num], wanted[num]), any_result=True)
        for num, result in zip(some, session.run(batch).results, strict=True):
            if result not in (-errno.ERANGE, -errno.EAGAIN):
                raise KernelError("can't be tried", resource=f"semaphores {ident}", why=str(result))
            found[num] = result == -errno.ERANGE
    return found


def giving(num: int, value: int, adjustment: int) -> Iterator[list[Op]]:
    """Calls after which a task has this adjustment more, and the semaphore its old `value`."""
    left = adjustment
    while left:
        if left > 0:
            part = min(left, max(value, VALUE_MAX - value))
            with_undo, without = (num, -part, SEM_UNDO), (num, part, 0)
            left -= part
        else:
            part = min(-left, max(value, VALUE_MAX - value))
            with_undo, without = (num, part, SEM_UNDO), (num, -part, 0)
            left += part
        pair = sorted((with_undo, without), key=lambda op: op[1], reverse=part <= VALUE_MAX - value)
        yield [(n, op, flags | IPC_NOWAIT) for n, op, flags in pair]


def touching(num: int, value: int) -> list[Op]:
    """Operations that leave a semaphore as it is, and make the caller its last user."""
    first = -1 if value == VALUE_MAX else 1
    return [(num, first, IPC_NOWAIT), (num, -first, IPC_NOWAIT)]
