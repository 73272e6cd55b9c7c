"""A page server in a thread of the test, and streams for it made by hand."""

from __future__ import annotations

import os
import socket
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckpt.images.pagemap import PE_PRESENT, Run
from ckpt.images.pageserver.connect import ServerAddress
from ckpt.images.pageserver.protocol import NARROW, Command, Layout, Message, image_id
from ckpt.images.pageserver.receiver import Receiver
from ckpt.images.pageserver.sender import PageSender
from ckpt.images.pageserver.store import ReceivedImages
from ckpt.images.pageserver.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

PAGE = 4096


@dataclass
class Server:
    """Receives into `directory`; its end of the connection is in a thread, ours is `sock`."""

    directory: Path
    prev: str = ""
    late: int = 0
    """It answers nothing before so many bytes have come."""

    error: BaseException | None = None
    sock: socket.socket = field(init=False)
    nr_bytes: list[int] = field(default_factory=list)

    def __enter__(self) -> Server:
        self.sock, theirs = socket.socketpair()
        self._thread = threading.Thread(target=self._run, args=(theirs,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end()

    def end(self) -> BaseException | None:
        """Close our end, and wait for the other. What it raised."""
        self.sock.close()
        self._thread.join(60)
        assert not self._thread.is_alive(), "the server hangs"
        return self.error

    def sender(self) -> PageSender:
        return PageSender(ServerAddress(host="", lfd=self.sock.fileno()), None)

    def _run(self, theirs: socket.socket) -> None:
        stream = Stream(theirs, "sender")
        if self.late:
            theirs.recv(self.late, socket.MSG_PEEK | socket.MSG_WAITALL)
        try:
            with ReceivedImages(self.directory, prev=self.prev) as images:
                Receiver(stream, images, self.nr_bytes.append).run()
        except BaseException as error:
            self.error = error
        finally:
            stream.close()


def pages(nr_pages: int, seed: int = 0) -> bytes:
    """Pages of which no two are alike."""
    return b"".join((seed + n).to_bytes(8, "little") * (PAGE // 8) for n in range(1, nr_pages + 1))


def message(
    command: Command, name: str = "", run: Run | None = None, layout: Layout = NARROW
) -> bytes:
    image = image_id(name) if name else 0
    addr, nr_pages, flags = run or Run(0, 0, 0)
    return layout.encode(Message(command, flags, nr_pages, addr, image))


def session(name: str, parts: Sequence[tuple[Run, bytes]], layout: Layout = NARROW) -> bytes:
    """What a sender of one image sends."""
    sent = [message(Command.OPEN2, name, layout=layout)]
    for run, data in parts:
        sent += [message(Command.ADD_F, name, run, layout), data]
    return b"".join([*sent, message(Command.CLOSE, layout=layout)])


def send_image(sender: PageSender, name: str, runs: Sequence[Run], data: bytes) -> bool:
    """One image through a sender. Whether it has a parent."""
    has_parent = sender.open(name)
    sink = sender.sink(runs)
    left = memoryview(data)
    while left:
        left = left[os.write(sink, left) :]
    sender.finish()
    return has_parent


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def present(addr: int, nr_pages: int) -> Run:
    return Run(addr, nr_pages, PE_PRESENT)
