"""The report of the command line: CRIU's log lines, and a bar where somebody looks on.

    (00.012345) Error (ckpt/dump/run.py:57): text
    (00.012345) Warn  (ckpt/dump/run.py:57): text
    (00.012345) text

Seconds since the start. Levels as CRIU's: 1 errors, 2 warnings, 3 steps, 4 all. With `--log-file`
everything goes there, with the time; else to standard error, with the time from level 3 on. What
ends ckpt is told on standard error in any case but level 0.

A line is one write(2), so that a log whose writer is killed ends with a whole line. What programs
have named, such as files, is escaped where it is not to be printed.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING

from ckpt.cli.output import printable
from ckpt.errors import UsageError
from ckpt.report import Report

if TYPE_CHECKING:
    from ckpt.cli.progress import Bar

ERROR, WARN, INFO, DEBUG = 1, 2, 3, 4
_PREFIX = {ERROR: "Error ({}): ", WARN: "Warn  ({}): ", INFO: "", DEBUG: ""}


def open_log(path: Path) -> int:
    """A descriptor of the new or emptied file. Raises UsageError."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
    try:
        return os.open(path, flags, 0o600)
    except OSError as e:
        raise UsageError(
            "the log can't be opened", resource=f"{path}", why=e.strerror or f"{e}"
        ) from e


class LogReport(Report):
    """`lfd`: our descriptor of the log file, or None for standard error; closed by `close`."""

    def __init__(self, level: int, lfd: int | None = None, *, start_s: float | None = None) -> None:
        self.level = level
        self._lfd = lfd
        self._start_s = time.monotonic() if start_s is None else start_s
        self._bar = _bar() if level > 0 and sys.stderr.isatty() else None

    @property
    def output_lfd(self) -> int:
        return 2 if self._lfd is None else self._lfd

    def error(self, text: str) -> None:
        self._log(ERROR, text, caller())

    def warn(self, text: str) -> None:
        self._log(WARN, text, caller())

    def info(self, text: str) -> None:
        self._log(INFO, text)

    def debug(self, text: str) -> None:
        self._log(DEBUG, text)

    def stage(self, name: str) -> None:
        self._log(INFO, f"Stage: {name}")
        if self._bar:
            self._bar.stage(name)

    def result(self, text: str) -> None:
        self._log(INFO, text)
        if self._bar and (self._lfd is not None or self.level < INFO):
            self._bar.line(printable(text))

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        if self._bar:
            self._bar.progress(done_bytes, total_bytes)

    def failed(self, text: str, where: str) -> None:
        """The error that ends this call, into the log and onto standard error."""
        self.close_bar()
        if self._lfd is not None:
            self._log(ERROR, text, where)
        if self.level >= ERROR:
            print(f"Error ({where}): {printable(text)}", file=sys.stderr, flush=True)

    def close_bar(self) -> None:
        if self._bar:
            self._bar.close()

    def close(self) -> None:
        """Ends the bar and the log. What is reported later is lost."""
        self.close_bar()
        self.level = 0
        if self._lfd is not None:
            os.close(self._lfd)
            self._lfd = None

    def _log(self, level: int, text: str, where: str = "") -> None:
        if level > self.level:
            return
        line = _PREFIX[level].format(where) + printable(text)
        if self._lfd is not None:
            os.write(self._lfd, f"{self._time()}{line}\n".encode())
        else:
            stamp = self._time() if self.level >= INFO else ""
            print(f"{stamp}{line}", file=sys.stderr, flush=True)

    def _time(self) -> str:
        return f"({time.monotonic() - self._start_s:09.6f}) "


def _bar() -> Bar:
    from ckpt.cli.progress import Bar

    return Bar()


def caller() -> str:
    """`file:line` of whoever called the method that called this."""
    return _place(sys._getframe(2))


def raised_at(traceback: TracebackType | None) -> str:
    """`file:line` of the innermost frame of ckpt's own that an exception went through."""
    place = "ckpt"
    while traceback is not None:
        here = _place(traceback.tb_frame, traceback.tb_lineno)
        if here.startswith("ckpt/"):
            place = here
        traceback = traceback.tb_next
    return place


def _place(frame: FrameType, line: int | None = None) -> str:
    path = frame.f_code.co_filename
    _, root, inside = path.rpartition("/ckpt/")
    return f"{'ckpt/' + inside if root else path}:{line or frame.f_lineno}"
