"""A page server in front of a good one, which answers as that does until it has had enough."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from ckpt.images.pageserver.protocol import NARROW, Message

PAGE = 4096


def _changed(**fields: int) -> Callable[[Message, bytes], bytes]:
    def spoil(message: Message, pages: bytes) -> bytes:
        wanted = {name: getattr(message, name) + more for name, more in fields.items()}
        return NARROW.encode(message._replace(**wanted)) + pages

    return spoil


def _whole(message: Message, pages: bytes) -> bytes:
    return NARROW.encode(message) + pages


BAD: dict[str, Callable[[Message, bytes], bytes]] = {
    "another address": _changed(addr=PAGE),
    "another task": _changed(image=1),
    "another command": _changed(command=1),
    "no page": lambda message, _: NARROW.encode(message._replace(nr_pages=0)),
    "too many pages": lambda message, pages: (
        NARROW.encode(message._replace(nr_pages=message.nr_pages + 1)) + pages + bytes(PAGE)
    ),
    "twice": lambda message, pages: 2 * _whole(message, pages),
    "garbage": lambda *_: bytes(range(1, 256)) * 64,
    "cut off": lambda message, pages: _whole(message, pages)[:-100],
    "gone": lambda *_: b"",
}


@contextmanager
def bad_server(port: int, how: str, good_answers: int) -> Iterator[int]:
    """The port of one that has the server at `port` answer, for one client, and spoils the answer
    that follows on `good_answers` good ones; then it is gone."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, port, how, good_answers))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(60)
            assert not thread.is_alive()


def _serve(listener: socket.socket, port: int, how: str, good_answers: int) -> None:
    try:
        client = listener.accept()[0]
    except OSError:
        return  # nobody came, and the test is over
    with client, socket.create_connection(("127.0.0.1", port)) as server:
        asking = threading.Thread(target=_pass_on, args=(client, server))
        asking.start()
        with suppress(OSError, EOFError):
            client.sendall(_exactly(server, 4))  # which layout it speaks
            for _ in range(good_answers):
                client.sendall(_whole(*_answer(server)))
            client.sendall(BAD[how](*_answer(server)))
        for sock in (client, server):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        asking.join()


def _pass_on(client: socket.socket, server: socket.socket) -> None:
    with suppress(OSError):
        while data := client.recv(1 << 16):
            server.sendall(data)


def _answer(server: socket.socket) -> tuple[Message, bytes]:
    message = NARROW.decode(memoryview(_exactly(server, NARROW.size)), 0)
    return message, _exactly(server, message.nr_pages * PAGE)


def _exactly(sock: socket.socket, nr_bytes: int) -> bytes:
    data = bytearray()
    while len(data) < nr_bytes:
        got = sock.recv(nr_bytes - len(data))
        if not got:
            raise EOFError
        data += got
    return bytes(data)
