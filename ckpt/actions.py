"""`--action-script`: programs of the user's that are run at certain moments of an operation.

Events and environment are CRIU's (criu(8)). Of its events those happen here that need no namespace
of the tree's own; the others have nothing that they could be told of. Every script is run at every
event, one after the other in the order in which they were given, and waited for, however long it
takes: what copies the images to another machine needs its time. What ends ckpt ends the script, and
what it started in its own process group, before the tree is put back.

A script gets the environment of ckpt with CRTOOLS_SCRIPT_ACTION, CRTOOLS_IMAGE_DIR (an absolute
path) and, where the tree exists, CRTOOLS_INIT_PID; an empty standard input, the log for its output,
no other descriptor, and the limit of descriptors that ckpt was started with.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import threading
from contextlib import contextmanager, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from ckpt.errors import ActionError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from subprocess import Popen

    from ckpt.report import Report


class Event(StrEnum):
    PRE_DUMP = "pre-dump"
    LIVE_INSTANT = "live-instant"
    POST_DUMP = "post-dump"
    PRE_RESTORE = "pre-restore"
    POST_RESTORE = "post-restore"
    PRE_RESUME = "pre-resume"
    POST_RESUME = "post-resume"
    STATUS_READY = "status-ready"


_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_TOLD_ONLY = frozenset((Event.PRE_RESUME, Event.POST_RESUME))
"""There is no way back from them: what a script says to them is logged and changes nothing."""


class Actions:
    """The scripts of one operation. Nothing is imported, nor looked at, where there are none."""

    def __init__(self, scripts: Sequence[str], images_dir: Path, report: Report) -> None:
        """Raises UsageError for a script that can't be executed, before anything is begun."""
        self._scripts = scripts
        self._report = report
        if not scripts:
            return
        self._images_dir = str(images_dir.absolute())
        self._nofile = resource.getrlimit(resource.RLIMIT_NOFILE)
        for script in scripts:
            _must_be_executable(script)

    def __bool__(self) -> bool:
        return bool(self._scripts)

    def run(self, event: Event, root: int | None = None) -> None:
        """Run all scripts; `root`: pid of the root of the tree, None while there is none.

        Raises ActionError where one fails, after all of them were run.
        """
        failed: list[tuple[str, int]] = []
        for script in self._scripts:
            self._report.info(f"Running {event} script {script}")
            if status := self._status(script, event, root):
                failed.append((script, status))
        if not failed:
            return
        why = "; ".join(f"{script} ended with status {status}" for script, status in failed)
        if event in _TOLD_ONLY:
            self._report.warn(f"the {event} script failed: {why}")
        elif event is Event.POST_DUMP:
            raise ActionError.after_dump(why, failed[0][1], root)
        else:
            raise ActionError(f"the {event} script failed", why=why)

    def _status(self, script: str, event: Event, root: int | None) -> int:
        """As a shell gives it: 128 and the signal for a killed one, 126 where it does not start."""
        process = None
        try:
            with _signals_wait():
                try:
                    process = self._spawn(script, self._environment(event, root))
                except OSError as error:
                    self._report.warn(f"{script} can't be executed: {error.strerror}")
                    return 126
            code = process.wait()
        except BaseException:
            if process is not None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            raise
        return code if code >= 0 else 128 - code

    def _environment(self, event: Event, root: int | None) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if not k.startswith("CRTOOLS_")}
        env |= {"CRTOOLS_SCRIPT_ACTION": str(event), "CRTOOLS_IMAGE_DIR": self._images_dir}
        return env if root is None else env | {"CRTOOLS_INIT_PID": str(root)}

    def _spawn(self, script: str, env: dict[str, str]) -> Popen[bytes]:
        try:
            return self._started([script], env)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise
            # As execvp(3) does with a file that has no interpreter's line.
            return self._started(["/bin/sh", _found(script) or script], env)

    def _started(self, command: list[str], env: dict[str, str]) -> Popen[bytes]:
        from subprocess import DEVNULL, Popen

        out = self._report.output_lfd
        with self._first_limit():
            return Popen(command, env=env, stdin=DEVNULL, stdout=out, stderr=out, process_group=0)

    @contextmanager
    def _first_limit(self) -> Iterator[None]:
        """A restore works with as many descriptors as it may have; select(2) of others breaks."""
        now = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, self._nofile)
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, now)


@contextmanager
def _signals_wait() -> Iterator[None]:
    """One whose handler would raise here is handled at the end of the scope: a script that begins
    meanwhile is known by then. Not by the signal mask, which the script would inherit."""
    came: list[int] = []
    before: dict[int, Any] = {}
    try:
        if threading.current_thread() is threading.main_thread():
            for number in _ENDING:
                handler = signal.getsignal(number)
                if callable(handler):
                    before[number] = handler
                    signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        for signum in came:
            signal.raise_signal(signum)


def _found(script: str) -> str | None:
    import shutil

    return shutil.which(script)


def _must_be_executable(script: str) -> None:
    if _found(script) is None:
        raise UsageError(
            "no program that can be executed",
            resource=f"--action-script {script}",
            hint="a name without a slash is searched for in PATH",
        )
