"""The sending end: what a dump writes its pages into instead of files.

The producer writes pages into a pipe; a thread takes them out, puts the runs' messages between them
and sends them. It copies (no splice into the socket): what has left the pipe is no longer the
target's memory, so that after `finish` the target may write again, however long the network takes.

1. `PageSender(...)` connects, shakes hands, and asks a question that shows whether the server
   speaks and in which layout: what can fail early does, before anything is frozen.
2. `prepare`, with the images that will come, spares each `open` its wait.
3. For each image `open`, then `sink` with runs and their pages into the pipe, any number of times,
   then `finish`.
4. `close` returns when the server has committed everything.

A connection that breaks closes the pipe's reading end: whoever writes gets EPIPE (and SIGPIPE,
unless it ignores that, as Python does). The error itself is raised by the next call here, or on
leaving the `with` block by another exception. Leaving that without `close` drops the connection,
and the server removes what it has.

For one thread of the caller's. Nothing is imported after the constructor.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import TYPE_CHECKING

from ckpt.errors import PeerError
from ckpt.images.pageserver.connect import ServerAddress, connected, layout_spoken
from ckpt.images.pageserver.protocol import ANSWER, HAS_PARENT, Command, Message, image_id
from ckpt.images.pageserver.pump import Pipe, Pump
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from ckpt.images.pagemap import Run
    from ckpt.images.pageserver.tls import TlsOptions

_QUESTIONS = 1024
"""At a time: the answers to so many don't fill a socket that nobody reads."""

__all__ = ["PageSender", "ServerAddress"]


@record(frozen=True)
class _Pages:
    runs: Sequence[Run]
    image: int
    pipe: Pipe


class PageSender:
    """The way to a page server; see above. A context manager. Everything raises ImageError, of
    which PeerError is one kind, and the constructor UsageError for TLS files that are none."""

    def __init__(self, where: ServerAddress, tls: TlsOptions | None) -> None:
        self._where = where
        self._image = 0
        self._known: dict[str, bool] = {}
        self._pipe: Pipe | None = None
        self._error: Exception | None = None
        self._jobs: queue.SimpleQueue[_Pages | threading.Event | None] = queue.SimpleQueue()
        self._stream = connected(where, tls)
        try:
            self._layout = layout_spoken(self._stream)
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except BaseException:
            self._stream.close()
            raise
        self._pump = Pump(self._stream, self._layout, self._wake)
        self._thread = threading.Thread(target=self._work, name="page-sender", daemon=True)
        self._thread.start()

    def prepare(self, names: Sequence[str]) -> None:
        """Find out beforehand what `open` would tell of these images: it won't wait for the server
        then, whose answer takes as long as the network does, for every image."""
        self.check()
        for first in range(0, len(names), _QUESTIONS):
            some = names[first : first + _QUESTIONS]
            asked = (Message(Command.PARENT, image=image_id(name)) for name in some)
            self._stream.send([b"".join(map(self._layout.encode, asked))])
            answers = ANSWER.iter_unpack(self._stream.receive_exactly(len(some) * ANSWER.size))
            for name, (has_parent,) in zip(some, answers, strict=True):
                self._known[name] = has_parent > 0

    def open(self, name: str) -> bool:
        """Begin image `name` ("pagemap-7" or "pagemap-shmem-3"), once. Whether the server has a
        parent for it: without one, no run may be PE_PARENT."""
        self.finish()
        self._image = image_id(name)
        if name in self._known:
            self._stream.send([self._layout.encode(Message(Command.OPEN, image=self._image))])
            return self._known[name]
        message = Message(Command.OPEN2, image=self._image)
        self._stream.send([self._layout.encode(message)])
        (answer,) = HAS_PARENT.unpack(self._stream.receive_exactly(HAS_PARENT.size))
        return bool(answer)

    def sink(self, runs: Sequence[Run]) -> int:
        """A descriptor into which the present pages of `runs` are to be written, in order. It is a
        pipe, the same one until `finish`, and stays ours."""
        self.check()
        if self._pipe is None:
            self._pipe = Pipe()
        self._jobs.put(_Pages(runs, self._image, self._pipe))
        return self._pipe.writer

    def check(self) -> None:
        """Raises why the sink is broken, if it is: the reason behind an EPIPE."""
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """Wait until everything that was written into the sink is on its way. The sink is closed;
        while a duplicate of it is open, pages that were announced and not written are waited for.
        """
        if self._pipe is not None:
            self._pipe.close_writer()
            done = threading.Event()
            self._jobs.put(done)
            done.wait()
            self._pipe.close_reader()
            self._pipe = None
        self.check()

    def close(self) -> None:
        """Everything was sent: have the server commit it, and wait for that."""
        self.finish()
        last = Command.CLOSE if self._where.lfd is None else Command.FORCE_CLOSE
        self._stream.send([self._layout.encode(Message(last))])
        (status,) = ANSWER.unpack(self._stream.receive_exactly(ANSWER.size))
        if status:
            raise PeerError(
                "could not keep the images",
                resource=str(self._where),
                why=f"it answered {status}",
                hint="its log tells why",
            )
        self._stop()
        if self._where.lfd is None:
            self._stream.end()
        self._stream.close()

    def abort(self) -> None:
        """Drop the connection; the server keeps nothing. Does nothing after `close`."""
        if self._wake < 0:
            return
        self._stream.abort()
        os.eventfd_write(self._wake, 1)
        self._stop()
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        reason = self._error
        self.abort()
        # What broke the sink, not the EPIPE that came of it.
        if reason is not None and reason is not error and isinstance(error, Exception):
            raise reason from error

    def _stop(self) -> None:
        """End the thread, which must be idle or about to fail, and what it used."""
        self._jobs.put(None)
        self._thread.join()
        if self._pipe is not None:
            self._pipe.close_writer()
            self._pipe.close_reader()
        wake, self._wake = self._wake, -1
        os.close(wake)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            if isinstance(job, threading.Event):
                job.set()
                continue
            if self._error is None:
                try:
                    self._pump.move(job.runs, job.image, job.pipe)
                except Exception as error:
                    self._error = error
            if self._error is not None:
                job.pipe.close_reader()
