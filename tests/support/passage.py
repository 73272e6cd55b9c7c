"""A passage for TCP between two programs, in which something happens at a given moment."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

_PIECE = 64 << 10
_LOOK_S = 0.02


@dataclass
class Passage:
    """Whoever connects to `port` speaks with who listens at `to`. When `nr_bytes` have passed over
    the connection that was the `nr`-th to come, from 0 on, in both directions together, `act` is
    called, once, and only then more passes. A context manager. `held`: connections over which
    nothing passes; `closed`: those who come are sent away."""

    to: int
    nr: int
    nr_bytes: int
    act: Callable[[Passage], None]
    port: int = 0
    acted: bool = False
    closed: bool = False
    held: set[int] = field(default_factory=set)
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)
    _passed: int = 0

    def __enter__(self) -> Passage:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake.close()
        self._thread.join()
        self.cut()
        for sock in (self._listening, self._woken, *(one for pair in self._pairs for one in pair)):
            sock.close()

    def cut(self, *numbers: int) -> None:
        """End these connections, or all; new ones may come."""
        for number, pair in enumerate(self._pairs):
            if number in numbers or not numbers:
                for sock in pair:
                    with suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        ended: set[socket.socket] = set()
        while True:
            passing = [pair for n, pair in enumerate(self._pairs) if n not in self.held]
            open_ones = {sock for pair in passing for sock in pair} - ended
            waits_s = _LOOK_S if self.held else None
            ready, _, _ = select.select([self._woken, self._listening, *open_ones], [], [], waits_s)
            if self._woken in ready:
                return
            if self._listening in ready:
                self._let_in()
            for number, pair in enumerate(self._pairs):
                for source, to in (pair, pair[::-1]):
                    if source in ready and not self._pass_on(number, source, to):
                        ended.add(source)

    def _let_in(self) -> None:
        sock, _ = self._listening.accept()
        if self.closed:
            sock.close()
            return
        there = socket.socket()
        with suppress(OSError):  # who listened is gone: the connection ends
            there.connect(("127.0.0.1", self.to))
        self._pairs.append((sock, there))

    def _pass_on(self, number: int, source: socket.socket, to: socket.socket) -> bool:
        """One piece; whether more can come."""
        counted = number == self.nr and not self.acted
        if counted and self._passed == self.nr_bytes:
            self.acted = True
            self.act(self)
            counted = False
        size = min(_PIECE, self.nr_bytes - self._passed) if counted else _PIECE
        try:
            data = source.recv(size)
            self._passed += len(data) if counted else 0
            if data:
                to.sendall(data)
                return True
        except OSError:
            data = b""
        with suppress(OSError):
            to.shutdown(socket.SHUT_WR)
        return False
