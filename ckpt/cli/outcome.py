"""How a call ends: every exception is one exit code and some lines of text. ckpt(1) has the list.

Signals: the first SIGINT, SIGTERM or SIGHUP raises in the main thread, so that every scope of the
work is left in order and the target is put back; later ones are ignored until that is done. What
SIGKILL leaves behind is ckpt-parasite(7)'s subject.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ckpt.cli.log import LogReport, raised_at
from ckpt.errors import CkptError, RefusedError, shortage

INTERNAL_ERROR = 1
BY_SIGNAL = 128
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminated(BaseException):
    """A signal asked us to end. Not an Exception: nothing but the outermost scope may stop it."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(f"ended by {signal.Signals(signum).name}")


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Within it the first signal raises: SIGINT KeyboardInterrupt, the others Terminated. What
    was ignored from the start (nohup) stays so. Main thread only."""
    before = {signum: signal.getsignal(signum) for signum in _SIGNALS}

    def end(signum: int, _frame: FrameType | None) -> None:
        for other in _SIGNALS:
            signal.signal(other, signal.SIG_IGN)
        raise KeyboardInterrupt if signum == signal.SIGINT else Terminated(signum)

    for signum in _SIGNALS:
        if before[signum] is not signal.SIG_IGN:
            signal.signal(signum, end)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def failure(error: BaseException, report: LogReport) -> int:
    """The exit code for `error`, which is told to `report`."""
    where = raised_at(error.__traceback__)
    error = shortage(error) or error
    for line in _lines(error):
        report.failed(line, where)
    if isinstance(error, CkptError):
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return BY_SIGNAL + signal.SIGINT
    if isinstance(error, Terminated):
        return BY_SIGNAL + error.signum
    from traceback import format_exception

    for line in "".join(format_exception(error)).splitlines():
        report.debug(line)
    return INTERNAL_ERROR


def _lines(error: BaseException) -> Iterator[str]:
    if isinstance(error, RefusedError) and error.refusals:
        yield from (f"can't be dumped: {refusal}" for refusal in error.refusals)
    elif isinstance(error, CkptError | Terminated):
        yield f"{error}"
    elif isinstance(error, KeyboardInterrupt):
        yield "interrupted"
    elif isinstance(error, OSError):
        yield f"{error} (not foreseen; -v4 logs where it came from)"
    else:
        yield f"{type(error).__name__}: {error} (a defect of ckpt; -v4 logs where it came from)"
