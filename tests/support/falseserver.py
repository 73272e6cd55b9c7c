"""A page server that answers as it should, until it has had enough."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ckpt.images.pageserver.protocol import NARROW, Command

if TYPE_CHECKING:
    from collections.abc import Iterator

_ANSWERS = {Command.PARENT: bytes(4), Command.OPEN2: bytes(1)}


@contextmanager
def false_server(nr_bytes: int) -> Iterator[int]:
    """Its port. It takes one sender, and about `nr_bytes` of pages from it; then it is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, nr_bytes))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(60)
            assert not thread.is_alive()


def _serve(listener: socket.socket, left: int) -> None:
    try:
        sock = listener.accept()[0]
    except OSError:
        return  # nobody came, and the test is over
    with sock:
        while data := sock.recv(NARROW.size, socket.MSG_WAITALL):
            message = NARROW.decode(memoryview(data), 0)
            sock.sendall(_ANSWERS.get(Command(message.command), b""))
            while message.command == Command.ADD_F and message.nr_pages:
                got = len(sock.recv(min(4096, left), socket.MSG_WAITALL))
                left -= got
                message = message._replace(nr_pages=message.nr_pages - 1)
                if not got or left <= 0:
                    return
