"""What can go wrong, by kind. Each kind has an exit code (listed in ckpt(1)).

An error says what failed, on which process and resource, why, and what would help. Code raises the
kind; only the command line turns it into text and an exit code.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class CkptError(Exception):
    """Base of every error that ckpt raises on purpose.

    `what`: one clause, what failed. `pid`: the task concerned. `resource`: which descriptor,
    mapping, file or option. `why`: the cause. `hint`: what would help.
    """

    exit_code = 1

    def __init__(
        self,
        what: str,
        *,
        pid: int | None = None,
        resource: str = "",
        why: str = "",
        hint: str = "",
    ) -> None:
        self.what = what
        self.pid = pid
        self.resource = resource
        self.why = why
        self.hint = hint
        super().__init__(str(self))

    def __str__(self) -> str:
        where = f"pid {self.pid}: " if self.pid is not None else ""
        resource = f"{self.resource}: " if self.resource else ""
        why = f": {self.why}" if self.why else ""
        hint = f" ({self.hint})" if self.hint else ""
        return f"{where}{resource}{self.what}{why}{hint}"


class UsageError(CkptError):
    """The command line or a configuration is wrong; nothing was looked at."""

    exit_code = 2


class TargetError(CkptError):
    """The target is not there, can't be attached to, or ended meanwhile."""

    exit_code = 4


class ImageError(CkptError):
    """An image is missing, damaged, of a foreign version, or in the way."""

    exit_code = 5


class PeerError(ImageError):
    """The other end of a connection can't be reached, is not trusted, broke off, or spoke what is
    no page server's protocol."""

    exit_code = 10


class RestoreError(CkptError):
    """The surroundings don't allow this restore: a taken pid, a changed or missing file."""

    exit_code = 6


class KernelError(CkptError):
    """The kernel or this process's privileges lack what is needed."""

    exit_code = 7


def shortage(error: BaseException) -> KernelError | None:
    """What Python says where this process gets no more memory or threads, as an error of ours; None
    for any other. For what fails in the loader or with a thread Python has no kind of its own."""
    loader = isinstance(error, ImportError) and "failed to map segment" in str(error)
    if isinstance(error, MemoryError) or loader:
        hint = "raise its limit (ulimit -v, memory.max of its cgroup)"
        return KernelError("ckpt itself gets no more memory", hint=hint)
    if isinstance(error, RuntimeError) and str(error) == "can't start new thread":
        hint = "raise its limit (ulimit -u, pids.max of its cgroup)"
        return KernelError("ckpt itself gets no more threads", hint=hint)
    return None


@contextmanager
def refused_by_kernel(what: str) -> Iterator[None]:
    """Within it an OSError that nobody has expected becomes a KernelError: `what` failed. So does
    it where ckpt itself gets no memory or thread any more."""
    try:
        yield
    except (MemoryError, RuntimeError, ImportError) as error:
        short = shortage(error)
        if short is None:
            raise
        refused = KernelError(what, why=short.what, hint=short.hint)
        raise refused.with_traceback(error.__traceback__) from error
    except OSError as error:
        resource = "" if error.filename is None else os.fsdecode(error.filename)
        why = error.strerror or str(error)
        refused = KernelError(what, resource=resource, why=why)
        # The place that is logged is the call's, not this one.
        raise refused.with_traceback(error.__traceback__) from error


class DeadlineError(CkptError):
    """Something did not happen in time; the target was put back."""

    exit_code = 8


class ActionError(CkptError):
    """A script of --action-script failed, and with it the operation, which was taken back."""

    exit_code = 11
    images_stay = False

    @classmethod
    def after_dump(cls, why: str, status: int, pid: int | None) -> ActionError:
        """The images are whole already. The exit code is the script's own, as CRIU's is."""
        error = cls(
            "the post-dump script failed",
            pid=pid,
            why=why,
            hint="the images are whole, the tree runs on",
        )
        error.exit_code, error.images_stay = status, True
        return error


class NotOneInstant(CkptError):
    """A live snapshot has lost memory before it was copied. There is no set, the tree runs on, and
    another attempt may do."""

    exit_code = 12


class HarmError(CkptError):
    """The target could not be put back as it was. The message says what is left."""

    exit_code = 9


@record(frozen=True)
class Refusal:
    """One thing that ckpt does not restore, found before anything was touched."""

    pid: int
    resource: str
    why: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f" ({self.hint})" if self.hint else ""
        return f"pid {self.pid}: {self.resource}: {self.why}{hint}"


class RefusedError(CkptError):
    """The tree holds what ckpt does not restore. All of it is in `refusals`."""

    exit_code = 3

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        self.refusals = tuple(refusals)
        super().__init__("can't be dumped: " + "; ".join(str(r) for r in self.refusals))
