"""What every kind needs of a restore: options, images, and what --inherit-fd gives."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from ckpt.errors import ImageError, RestoreError
from ckpt.record import field, record
from ckpt.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ckpt.files.kind import FdType, RestoreKind
    from ckpt.images.reader import ImageSet
    from ckpt.infect.batch import Batch, Outcome

K = TypeVar("K", bound="RestoreKind")

_LAST_SIGNAL = 64
_F_SETSIG = 10


@record(frozen=True, kw_only=True)
class RestoreFileOptions:
    """As in ckpt-restore(1). `inherit`: our open descriptor for what the images call a resource.
    `other_net`: the network namespace will be another than that of the dump (--join-ns)."""

    shell_job: bool = False
    file_locks: bool = False
    skip_file_rwx_check: bool = False
    tcp_established: bool = False
    tcp_close: bool = False
    network_lock: str = "nftables"
    build_ids: bool = False
    other_net: bool = False
    inherit: Mapping[str, int] = field(default_factory=dict)


class Tasks(Protocol):
    """The tasks under construction, for what only they can make (Opener.TASK)."""

    def __contains__(self, pid: int) -> bool: ...

    def run(self, pid: int, batch: Batch, lfds: Sequence[int] = ()) -> Outcome:
        """Run a batch in one of them, which receives our descriptors."""

    def duplicate(self, pid: int, fd: int) -> int:
        """Our duplicate of its descriptor, the caller's."""


class RestoreView:
    """State that the kinds of one restore share.

    `owners`: uid and gid that a pipe is given to, by file id, so that a task without privileges may
    open /dev/stdout. `tables`: the file id of each descriptor of each live pid, complete when
    `prepare` is called. `tasks`: from Stage.TASKS on, unless there are none. `lfds`: ours, of every
    description that is open already."""

    def __init__(
        self, images: ImageSet, options: RestoreFileOptions, report: Report | None = None
    ) -> None:
        self.images = images
        self.inherit = options.inherit
        self.options = options
        self.shell_job = options.shell_job
        self.skip_file_rwx_check = options.skip_file_rwx_check
        self.build_ids = options.build_ids
        self.report = report or Report()
        self.kinds: dict[type[RestoreKind], RestoreKind] = {}
        self.owners: dict[int, tuple[int, int]] = {}
        self.tables: dict[int, dict[int, int]] = {}
        self.tasks: Tasks | None = None
        self.lfds: dict[int, int] = {}

    def kind(self, wanted: type[K]) -> K:
        """This restore's instance of a kind."""
        found = self.kinds[wanted]
        if not isinstance(found, wanted):
            raise TypeError(f"{wanted} is registered as {type(found)}")
        return found

    def met(self, wanted: FdType) -> Any:
        """The instance of the kind of this type; None where the set has nothing of it."""
        return next((kind for kind in self.kinds.values() if kind.type is wanted), None)

    def messages(self, image: str) -> list[Any]:
        """The messages of an image; none where the set has no such image."""
        return self.images.read(image) if self.images.exists(image) else []

    def payloads(self, image: str) -> list[tuple[Any, bytes]]:
        """As `messages`, each with its raw bytes."""
        return self.images.read_payloads(image) if self.images.exists(image) else []

    def inherited(self, resource: str) -> int | None:
        """A duplicate of what --inherit-fd gives for `resource`: the caller's to close."""
        lfd = self.inherit.get(resource)
        if lfd is None:
            return None
        try:
            return fcntl.fcntl(lfd, fcntl.F_DUPFD_CLOEXEC, 3)
        except OSError as error:
            raise RestoreError(
                f"--inherit-fd names descriptor {lfd}, which can't be used",
                resource=resource,
                why=os.strerror(error.errno or 0),
            ) from error

    def signum(self, fown: Any, where: str) -> int:
        """The signal of F_SETSIG of a checked fown_entry."""
        if fown.signum > _LAST_SIGNAL:
            raise ImageError(f"has signal {fown.signum}", resource=where)
        return int(fown.signum)

    def set_signum(self, lfd: int, signum: int) -> None:
        """F_SETSIG where it is not the default."""
        if signum:
            fcntl.fcntl(lfd, _F_SETSIG, signum)

    def give(self, lfd: int, file_ids: Iterable[int]) -> None:
        """Make a pipe belong to the user of the first of these that is known."""
        owner = next((self.owners[i] for i in file_ids if i in self.owners), None)
        if owner is not None and owner != (os.geteuid(), os.getegid()):
            try:
                os.fchown(lfd, *owner)
            except OSError as error:
                why = os.strerror(error.errno or 0)
                self.report.warn(f"a pipe can't be given to uid {owner[0]}: {why}")
