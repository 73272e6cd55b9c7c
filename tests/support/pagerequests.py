"""A client that asks a page server for pages, made by hand: in either layout of the messages."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from ckpt.images.pageserver.protocol import ANSWER, Command, Layout, Message

PAGE = 4096


@dataclass
class Client:
    """One connection; `sock` may be one of TLS."""

    sock: socket.socket | ssl.SSLSocket
    layout: Layout

    def ask(self, image: int, addr: int, nr_pages: int) -> None:
        self.sock.sendall(self.layout.encode(Message(Command.GET, 0, nr_pages, addr, image)))

    def answer(self) -> tuple[Message, bytes]:
        """The next one, with its pages."""
        message = self.layout.decode(memoryview(self.exactly(self.layout.size)), 0)
        return message, self.exactly(message.nr_pages * PAGE)

    def get(self, image: int, addr: int, nr_pages: int) -> tuple[Message, bytes]:
        self.ask(image, addr, nr_pages)
        return self.answer()

    def exactly(self, nr_bytes: int) -> bytes:
        data = bytearray()
        while len(data) < nr_bytes:
            got = self.sock.recv(min(1 << 20, nr_bytes - len(data)))
            if not got:
                raise EOFError(f"{len(data)} of {nr_bytes} bytes came")
            data += got
        return bytes(data)

    def leave(self, command: Command = Command.CLOSE) -> int:
        """What the server says to it."""
        self.sock.sendall(self.layout.encode(Message(command)))
        return int(ANSWER.unpack(self.exactly(ANSWER.size))[0])
