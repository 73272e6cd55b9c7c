"""A client of a redis-server that moves: `counting.py HERE THERE PORT`.

It counts by INCR, on one connection, at HERE, and says `counting` when it has begun. Whenever an
answer is late it looks whether somebody answers at THERE, and goes on at whichever does. Once it
has counted there too, it prints as JSON how far it came at either place, and for how many
microseconds nobody answered. Every count that it was told must have moved along, or it fails.
It ends when its standard input does.
"""

import json
import os
import select
import socket
import sys
import time
from contextlib import suppress

LATE_MS = 2
NR_BEFORE, NR_AFTER = 200, 200
INCR = b"*2\r\n$4\r\nINCR\r\n$7\r\ncounter\r\n"


class Asking:
    """One request on its way at one address."""

    def __init__(self, address: str, port: int) -> None:
        self.sock = socket.create_connection((address, port))
        self.got = b""
        self.ask()

    def ask(self) -> None:
        """One that can't be asked any more says so when it is to answer."""
        with suppress(OSError):
            self.sock.sendall(INCR)

    def answer(self) -> int | None:
        """The answer, if it is all there. Raises OSError when the connection has ended."""
        piece = self.sock.recv(100)
        if not piece:
            raise ConnectionResetError
        self.got += piece
        if not self.got.endswith(b"\r\n"):
            return None
        number = int(self.got[1:])
        self.got = b""
        return number


def attempt(address: str, port: int) -> Asking | None:
    try:
        return Asking(address, port)
    except OSError:
        return None


def main(here: str, there: str, port: int) -> None:
    old: Asking | None = Asking(here, port)
    new: Asking | None = None
    count = began = left_at = outage_ns = 0
    answered_ns = time.monotonic_ns()
    while not left_at or count < left_at + NR_AFTER:
        asking = [one for one in (old, new) if one]
        wanted = [0, *(one.sock.fileno() for one in asking)]
        ready = select.select(wanted, [], [], LATE_MS / 1000)[0]
        if 0 in ready and not os.read(0, 1):
            sys.exit("nobody watches any more")
        for one in asking:
            if one.sock.fileno() not in ready:
                continue
            try:
                number = one.answer()
            except OSError:
                old, new = (None, new) if one is old else (old, None)
                continue
            if number is None:
                continue
            now = time.monotonic_ns()
            # What was asked last at the old place may have been done there without an answer.
            first = one is new and not left_at
            assert number == count + 1 or (first and number == count + 2), (number, count)
            if first:
                # An answer from the old place may still come, as late as it likes.
                old, left_at, outage_ns = None, count, now - answered_ns
            count, answered_ns = number, now
            began += 1
            if began == NR_BEFORE:
                print("counting", flush=True)
            if not left_at or count < left_at + NR_AFTER:
                one.ask()
        if not ready and new is None:
            new = attempt(there, port)
    print(json.dumps({"here": left_at, "there": count, "outage_us": outage_ns // 1000}))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
