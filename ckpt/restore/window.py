"""The parasite's window in the tasks under construction: where it is, and what is where in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ckpt.infect.blob import Layout, blob, layout_at
from ckpt.mem.build import free_window
from ckpt.pstree.sharing import VM
from ckpt.record import field, record, replace
from ckpt.units import PAGE, Range, page_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckpt.mem.vdso import KernelCode
    from ckpt.mem.vma import Status, Vma
    from ckpt.restore.load import Loaded

BATCHES_LEN = 1 << 20
THREAD_SLOT = 4 * PAGE
ROOM_LEN = page_up(BATCHES_LEN + 2 * PAGE)
PARKING_LEN = 32 * PAGE
"""Where a task's vdso waits while its address space is made."""

APART = 16 * PAGE


@record(frozen=True)
class Window:
    """The parasite's window, the same in every task: code, rooms (session, stack, batches), then a
    slot for each thread, then the parking place of the vdso. Who shares a memory with others has a
    room and slots that are not theirs. `room_nr` and `slot_nr`: the first of each task."""

    layout: Layout
    nr_rooms: int = 1
    room_nr: dict[int, int] = field(default_factory=dict)
    slot_nr: dict[int, int] = field(default_factory=dict)

    @property
    def scratch(self) -> int:
        """Where System V shared memory of any size of the set can be attached for a moment."""
        return self.layout.window.end + APART

    def of(self, pid: int) -> Layout:
        """The window as the task `pid` uses it (0: one that shares nothing)."""
        start = self.layout.data + self.room_nr.get(pid, 0) * ROOM_LEN
        return replace(self.layout, room=Range(start, start + ROOM_LEN))

    def slot(self, pid: int, index: int) -> int:
        """Address of the slot of the `index`-th further thread of a task."""
        return self._slots + (self.slot_nr.get(pid, 0) + index) * THREAD_SLOT

    def apart(self, needs: Needs) -> int:
        """Where there is room behind the window and what segments need."""
        return page_up(self.layout.window.end + needs.scratch) + APART

    @property
    def nr_slots(self) -> int:
        """How many threads have room."""
        return (self.parking - self._slots) // THREAD_SLOT

    @property
    def parking(self) -> int:
        return self.layout.window.end - PARKING_LEN

    @property
    def _slots(self) -> int:
        return self.layout.data + self.nr_rooms * ROOM_LEN


class Needs(NamedTuple):
    """Room behind the window, in bytes: for the largest segment of System V shared memory, and for
    a vdso that stands apart from the task's own."""

    largest: int = 0
    vdso: int = 0

    @property
    def scratch(self) -> int:
        return page_up(self.largest) + APART if self.largest else 0

    @property
    def size(self) -> int:
        return self.scratch + (self.vdso + APART if self.vdso else 0)


class Places(NamedTuple):
    """By task its room and its first slot, and how many slots there must be."""

    rooms: dict[int, int]
    slots: dict[int, int]
    nr_slots: int


def places_of(loaded: Loaded) -> Places:
    """Places for all tasks and threads."""
    rooms: dict[int, int] = {}
    slots: dict[int, int] = {}
    nr_slots = 0
    for group in loaded.sharing.groups(VM):
        used = 0
        for number, pid in enumerate(group):
            rooms[pid], slots[pid] = number, used
            used += len(loaded.tree[pid].threads)
        nr_slots = max(nr_slots, used)
    return Places(rooms, slots, nr_slots)


def window_for(vmas: Iterable[Vma], places: Places, needs: Needs) -> Window:
    """A window where none of `vmas` is, with as much room behind it as is needed. Raises
    ValueError."""
    nr_rooms = 1 + max(places.rooms.values(), default=0)
    data_len = nr_rooms * ROOM_LEN + places.nr_slots * THREAD_SLOT + PARKING_LEN
    at = free_window(vmas, blob().code_len + data_len + needs.size)
    return Window(layout_at(at, data_len), nr_rooms, places.rooms, places.slots)


def parked(window: Window, here: KernelCode) -> Iterator[tuple[Range, Status]]:
    """Where the kernel's mappings are in their parking place, ascending."""
    at = window.parking
    for size, status in here.mappings:
        yield Range(at, at + size), status
        at += size
