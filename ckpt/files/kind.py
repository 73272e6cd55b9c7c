"""What a kind of descriptor has to be able to do: two classes side by side in the kind's module.

A new kind is one module with a DumpKind and a RestoreKind, and a line for each in the registry.

Dump, in this order, one instance of each kind for a whole dump:

1. `claims` and `obstacle` look at a descriptor from outside, `together` at all of the tree; a
   preflight does no more.
2. `hold`, once for each open file description, target frozen: remember it under its id.
3. `settle`, when all are held: ask duplicates what only a standing target tells.
4. `entries` and `images`: messages, made when the target runs again; no duplicate exists any more.

Restore, one instance of each kind for a whole restore:

1. `take` each entry of files.img and check it: an image is hostile.
2. `prepare`, when all are taken: what must agree between entries. Nothing is opened yet.
3. `open`, once for each description, in the order of the plan.
4. `finish`, when all tasks are complete and nothing of ours but the descriptions themselves is open
   any more: what the time or the noise of a restore would disturb.

`opener` says who opens it: the controller, or the task that owns it (a later need: see D3 in the
design). `stage` says when. `needs` are the kinds that must be open before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Any, ClassVar

from ckpt.images.types import message_class
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from ckpt.errors import Refusal
    from ckpt.files.descriptor import Descriptor
    from ckpt.files.dumping import DumpView
    from ckpt.files.restoring import RestoreView
    from ckpt.procfs.stat import Stat


class FdType(IntEnum):
    """`fd_types` of the image format; the kinds that ckpt does not know stay plain numbers."""

    REG = 1
    PIPE = 2
    FIFO = 3
    INETSK = 4
    UNIXSK = 5
    EVENTFD = 6
    EVENTPOLL = 7
    INOTIFY = 8
    SIGNALFD = 9
    PACKETSK = 10
    TTY = 11
    FANOTIFY = 12
    NETLINKSK = 13
    EXT = 16
    TIMERFD = 17
    MEMFD = 18
    PIDFD = 20


FLYING_ALONE = frozenset(
    {
        *(FdType.REG, FdType.PIPE, FdType.FIFO, FdType.MEMFD, FdType.EVENTFD, FdType.SIGNALFD),
        *(FdType.TIMERFD, FdType.INETSK, FdType.UNIXSK, FdType.NETLINKSK, FdType.PACKETSK),
    }
)
"""What may be in flight to a UNIX socket while no task has it: that needs no task to be made."""


class Opener(Enum):
    """Who opens a description on restore."""

    CONTROLLER = "controller"
    TASK = "task"


class Stage(Enum):
    """When a description can be opened on restore."""

    FIRST = "before there are tasks"
    TASKS = "when all tasks and threads are there"


@record(frozen=True)
class Obstacle:
    """Why a descriptor can't be restored, and what would help."""

    why: str
    hint: str = ""


class DumpKind(ABC):
    """One kind of open file description on the way into the images."""

    type: ClassVar[FdType]

    def __init__(self, view: DumpView) -> None:
        self.view = view

    @abstractmethod
    def claims(self, d: Descriptor) -> bool:
        """Whether it is of this kind. A kind may claim what it then refuses."""

    def obstacle(self, d: Descriptor) -> Obstacle | None:
        """Why this one can't be dumped. No side effects: the target may be running."""
        del d
        return None

    def between(self) -> Iterable[Refusal]:
        """What stands in the way between all that `obstacle` has seen of a running tree. It may
        be wrong by the time of a dump, so only a survey asks."""
        return ()

    def together(
        self, descriptors: Sequence[Descriptor], stats: Mapping[int, Stat]
    ) -> Iterable[Refusal]:
        """What is in the way of this kind's descriptors of the whole tree together, or of its
        tasks; the target may be running. `stats`: of each task, by pid."""
        del descriptors, stats
        return ()

    @abstractmethod
    def hold(self, d: Descriptor, file_id: int) -> None:
        """Remember one description; `d` is the first descriptor that was found of it."""

    def settle(self) -> Iterable[Refusal]:
        """Ask what only a frozen target tells. Gives what turned out to be impossible."""
        return ()

    def at_last(self) -> None:  # noqa: B027 (most are at rest when their owners are)
        """Ask what goes on by itself, such as timers: the clocks are read right after. Raises
        OSError."""

    def before_freeze(self, run_id: str) -> None:  # noqa: B027 (few kinds take time)
        """Make ready what takes time; `obstacle` has seen the running target. Raises
        KernelError."""

    def let_go(self) -> None:  # noqa: B027 (most kinds hold nothing of the target's)
        """The target goes on: give back what it would miss. May be called twice."""

    def before_kill(self) -> None:  # noqa: B027 (as above)
        """The set is whole, and the tree is about to be killed, by who calls this: a child of ours,
        mostly, whose memory is its own."""

    def after_kill(self) -> Sequence[str]:
        """The tree runs no more, and what it holds goes. In the same process. Gives warnings."""
        return ()

    def entry(self, file_id: int) -> Any:
        """A new file_entry of this kind."""
        pb: Any = message_class("fdinfo.file_entry")
        return pb(type=int(self.type), id=file_id)

    @abstractmethod
    def entries(self) -> Iterator[Any]:
        """A file_entry for each description, and for what it refers to."""

    def images(self) -> dict[str, Sequence[Any]]:
        """Other images and their messages, a message with a payload as a pair."""
        return {}


class RestoreKind(ABC):
    """One kind of open file description on the way out of the images.

    Methods raise ImageError for what no image should say, RestoreError for what these surroundings
    do not allow.
    """

    type: ClassVar[FdType]
    field: ClassVar[str]
    """The field of file_entry that holds this kind's message."""
    opener: ClassVar[Opener] = Opener.CONTROLLER
    stage: ClassVar[Stage] = Stage.FIRST
    needs: ClassVar[tuple[FdType, ...]] = ()
    sendable: ClassVar[bool] = True
    """Whether a descriptor of ours reaches a task over a socket (SCM_RIGHTS)."""

    def __init__(self, view: RestoreView) -> None:
        self.view = view

    @abstractmethod
    def take(self, file_id: int, message: Any) -> None:
        """Check one message by itself and keep it."""

    def stage_of(self, file_id: int) -> Stage:
        """When this description can be opened; known after `check_tree`."""
        del file_id
        return self.stage

    def refers_to(self, file_id: int) -> Iterable[int]:
        """Descriptions that this one holds, though maybe no task does."""
        del file_id
        return ()

    def prepare(self, wanted: Iterable[int]) -> None:
        """Check what must agree; `wanted` are the descriptions that tasks have."""
        del wanted

    def owned_by(self, file_id: int) -> int:
        """The entry that has flags and owner of this description: its own or that of its path."""
        return file_id

    def check_tree(self, numbers: Container[int]) -> None:  # noqa: B027 (most ask nothing)
        """Check what refers to tasks; `numbers` are those of all tasks and threads to come."""

    @abstractmethod
    def text(self, file_id: int) -> str:
        """One line for --dry-run and for errors: what will be opened."""

    @abstractmethod
    def open(self, file_id: int) -> int:
        """Open it as the description was: a descriptor of ours, close-on-exec, the caller's."""

    def finish(self, file_id: int, lfd: int) -> None:  # noqa: B027 (most kinds are whole at once)
        """Put in what must come last into the description behind our descriptor `lfd`."""

    def release(self) -> None:  # noqa: B027 (few kinds hold anything back)
        """Nothing of the restore can fail any more but this: let loose what was held back."""

    def abandon(self) -> None:  # noqa: B027 (as above)
        """The restore is over, one way or the other: forget what was held back."""

    def close(self) -> None:  # noqa: B027 (most kinds have nothing to give back)
        """Give back what was opened beside. May be called twice."""
