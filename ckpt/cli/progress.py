"""A bar of bytes on a terminal, for work that lasts.

Importing rich takes 100 ms, and the bytes of a dump move while the target is frozen. So the caller
of `progress` only stores two numbers; after half a second it starts a thread that imports rich and
draws ten times a second, while the caller is in C without the GIL. Short work never gets there.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE_S = 0.5
_PERIOD_S = 0.1


class Bar:
    """Calls of `stage` and `progress` come from one thread. Writes to standard error only."""

    def __init__(self, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._since_s: float | None = None
        self._name = ""
        self._done = 0
        self._total = 0
        self._over = threading.Event()
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def stage(self, name: str) -> None:
        self._name, self._done, self._total = name, 0, 0

    def progress(self, done_bytes: int, total_bytes: int) -> None:
        self._done, self._total = done_bytes, total_bytes
        if self._thread is not None:
            return
        now_s = time.monotonic()
        if self._since_s is None:
            self._since_s = now_s
        elif now_s - self._since_s >= self._patience_s and not self._over.is_set():
            thread = threading.Thread(target=self._draw, name="progress", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no room for another thread: the work goes on without a bar
                self._over.set()
            else:
                self._thread = thread

    def line(self, text: str) -> None:
        """A line that stays, above the bar."""
        if self._thread is None:
            print(text, file=sys.stderr, flush=True)
        else:
            self._lines.put(text)

    @property
    def drawing(self) -> bool:
        return self._thread is not None

    def close(self) -> None:
        """Takes the bar off the terminal and waits until it is."""
        self._over.set()
        if self._thread is not None:
            self._thread.join()

    def _draw(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
        from rich.progress import TransferSpeedColumn as SpeedColumn

        columns = (
            TextColumn("{task.description:<8}"),
            BarColumn(),
            DownloadColumn(),
            SpeedColumn(),
        )
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(self._name, total=None)
            while not self._over.wait(_PERIOD_S):
                self._print(progress)
                progress.update(
                    task,
                    description=self._name,
                    completed=self._done,
                    total=self._total or None,
                )
            self._print(progress)

    def _print(self, progress: Progress) -> None:
        while not self._lines.empty():
            progress.console.print(self._lines.get(), markup=False, highlight=False)
