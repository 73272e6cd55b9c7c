"""redis-server under load, for tests that carry it over a dump and a restore.

Debian keeps the server in one binary with the checkers, which goes by the name it is called by; so
its package, which would start a service, is not needed.

What is checked is what clients see that know nothing of it: each counts, writes and reads back over
one connection that lives all the time, and a lost, a doubled and a wrong answer differ from what it
expects. redis-benchmark, which ends when a connection fails, has to live through it too.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from tests.requirements import require
from tests.support.case import Case
from tests.support.victim import Victim
from tests.support.waiting import wait_until

PORT = 7379
BINARY = "redis-check-rdb"
NR_CLIENTS = 4
ROUNDS = 20
"""So many rounds of every client lie between one step and the next."""
PIPELINE = 1000


class Connection:
    """The wire of redis: arrays of strings there, one answer back."""

    def __init__(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", PORT), timeout=60)
        self._answers = self._socket.makefile("rb")

    def close(self) -> None:
        self._answers.close()
        self._socket.close()

    def send(self, *commands: tuple[bytes, ...]) -> None:
        parts = []
        for command in commands:
            parts.append(b"*%d\r\n" % len(command))
            parts += [b"$%d\r\n%b\r\n" % (len(word), word) for word in command]
        self._socket.sendall(b"".join(parts))

    def answer(self) -> object:
        line = self._answers.readline()
        assert line.endswith(b"\r\n"), f"the connection ended: {line!r}"
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return self._answers.read(int(rest) + 2)[:-2]
        if kind == b"*":
            return [self.answer() for _ in range(int(rest))]
        assert kind in b"+:", line
        return int(rest) if kind == b":" else rest

    def ask(self, *words: bytes) -> object:
        self.send(words)
        return self.answer()


def value_of(number: int) -> bytes:
    return b"%d-" % number * 8


def populate(connection: Connection, nr_keys: int) -> None:
    for first in range(0, nr_keys, PIPELINE):
        numbers = range(first, min(first + PIPELINE, nr_keys))
        connection.send(*((b"SET", b"key:%d" % n, value_of(n)) for n in numbers))
        assert all(connection.answer() == b"OK" for _ in numbers)


@dataclass
class Client:
    """Works in a thread of its own until `stop`. Only that thread writes anything here."""

    number: int
    nr_keys: int
    rounds: int = 0
    failure: BaseException | None = None
    written: dict[int, bytes] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread = field(init=False)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        try:
            with closing(Connection()) as connection:
                while not self.stop.is_set():
                    self._round(connection)
                for key, value in self.written.items():
                    assert connection.ask(b"GET", b"key:%d" % key) == value
        except BaseException as error:
            self.failure = error

    def _round(self, connection: Connection) -> None:
        counted = connection.ask(b"INCR", b"counter:%d" % self.number)
        assert counted == self.rounds + 1, f"counted {counted} in round {self.rounds + 1}"
        # Its own share of the keys, in an order that goes all over them.
        key = (self.rounds * 7919 * NR_CLIENTS + self.number) % self.nr_keys
        before = self.written.get(key, value_of(key))
        assert connection.ask(b"GET", b"key:%d" % key) == before
        self.written[key] = b"%d by %d" % (self.rounds, self.number)
        assert connection.ask(b"SET", b"key:%d" % key, self.written[key]) == b"OK"
        self.rounds += 1


@dataclass
class Load:
    """All that the server has to do."""

    server: Victim
    benchmark: subprocess.Popen[bytes]
    clients: list[Client]

    def goes_on(self) -> None:
        """Until every client has done some rounds more, and the benchmark lives."""
        until = [client.rounds + ROUNDS for client in self.clients]

        def done() -> bool:
            assert not [c.failure for c in self.clients if c.failure]
            return all(c.rounds >= n for c, n in zip(self.clients, until, strict=True))

        wait_until(self.server.pid, done, 60)
        assert self.benchmark.poll() is None, "the benchmark has lost its connections"

    def benchmark_goes_on(self, connection: Connection) -> None:
        """Its requests are served: it writes to a database of its own."""
        connection.ask(b"SELECT", b"1")
        connection.ask(b"FLUSHDB")
        wait_until(self.server.pid, lambda: connection.ask(b"DBSIZE") != 0, 60)
        connection.ask(b"SELECT", b"0")


@contextmanager
def loaded(case: Case, nr_keys: int) -> Iterator[Load]:
    """A server with so many keys, clients and the benchmark at work."""
    require(shutil.which(BINARY), "redis-tools is not installed")
    link = case.folder / "redis-server"
    link.symlink_to(shutil.which(BINARY) or "")
    words = ("--port", str(PORT), "--bind", "127.0.0.1", "--save", "", "--dir", str(case.folder))
    server = case.start_command(str(link), *words)
    wait_until(server.pid, lambda: "Ready to accept connections" in server.out, 60)
    with closing(Connection()) as connection:
        populate(connection, nr_keys)
    command = ["redis-benchmark", "-p", str(PORT), "--dbnum", "1", "-q", "-c", "20"]
    benchmark = subprocess.Popen(
        [*command, "-t", "set", "-r", "10000", "-n", str(10**9)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    clients = [Client(number, nr_keys) for number in range(NR_CLIENTS)]
    try:
        yield Load(server, benchmark, clients)
    finally:
        for client in clients:
            client.stop.set()
        for client in clients:
            client.thread.join()
        benchmark.kill()
        benchmark.wait()
    assert not [client.failure for client in clients if client.failure]


def compare(connection: Connection, load: Load, nr_keys: int) -> None:
    """Every key has the value that was written last."""
    written = {key: text for client in load.clients for key, text in client.written.items()}
    for first in range(0, nr_keys, PIPELINE):
        numbers = range(first, min(first + PIPELINE, nr_keys))
        connection.send((b"MGET", *(b"key:%d" % n for n in numbers)))
        assert connection.answer() == [written.get(n, value_of(n)) for n in numbers]
