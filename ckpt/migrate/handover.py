"""The moments in which the tree changes hands, on the source's side. It stands all the while.

1. The set is whole here; the rest of it goes over.
2. `restore`: the other side builds the tree, up to its last step, and is `ready`.
3. `pids`: the messenger knows the tasks. Then a SIGSTOP is queued for each, so that none of them
   runs without our doing (ckpt.tracee.queuedstop), and the messenger sees to it if we die.
4. `go`.
5. `committed`: it runs there, ours is killed. `aborted`: it does not and never will, ours runs on.
   Neither: the other side is asked anew, over another connection. If nobody answers, nobody can
   know: the tree is left stopped, and the user is told.

Signals that ask us to end are deaf from 3 on.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, suppress
from enum import Enum
from typing import TYPE_CHECKING

from ckpt.dump.fate import Fate
from ckpt.dump.lazily import left_pages
from ckpt.errors import HarmError, PeerError
from ckpt.images.pageserver.connect import connected
from ckpt.mem.answering import Held
from ckpt.migrate import hello, wire
from ckpt.migrate.duties import COMMITTED
from ckpt.migrate.remainder import Remainder
from ckpt.tracee import queuedstop
from ckpt.tracee.attached import undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ckpt.dump.snapshot import Snapshot
    from ckpt.images.pageserver.stream import Stream
    from ckpt.migrate.options import MigrateOptions
    from ckpt.report import Report
    from ckpt.tracee.freeze import SeizedTree

ASK_S = 30.0
_NAP_S = 0.5


class Outcome(Enum):
    """What became of it there."""

    COMMITTED = "it runs there"
    ABORTED = "it does not"
    UNKNOWN = "nobody answers"


class Handing:
    """The handover of one dump (ckpt.dump.fate.Handover). `send_rest` sends the images of the set
    but its pages. `downtime_us`, `total_us`: as far as it went."""

    def __init__(
        self,
        options: MigrateOptions,
        ident: str,
        control: Stream,
        data: Stream,
        send_rest: Callable[[], None],
        report: Report,
    ) -> None:
        self._options = options
        self._ident = ident
        self._control = control
        self._data = data
        self._send_rest = send_rest
        self._report = report
        self._began_ns = time.monotonic_ns()
        self._outcome = Outcome.ABORTED
        self._lost = ""
        self.downtime_us = 0
        self.total_us = 0
        self.nr_late_bytes = 0

    def __call__(self, tree: SeizedTree, snapshots: Sequence[Snapshot]) -> Fate:
        """Raises PeerError where the tree is to run on here."""
        self._send_rest()
        if not self._options.lazy:
            return self._hand_over(tree)
        with ExitStack() as scope:
            held = Held.of([row for taken in snapshots for row in left_pages(taken, scope)])
            wire.send(self._data, "lazy")
            rest = scope.enter_context(
                Remainder(self._options, self._ident, self._data, held, self._report)
            )
            fate = self._hand_over(tree)
            return self._give(rest) if fate is Fate.END else fate

    def _hand_over(self, tree: SeizedTree) -> Fate:
        wire.send(self._control, "restore", lazy=self._options.lazy)
        wire.expect(self._control, "ready")
        with undisturbed():
            return self._let_go_of(tree)

    def _give(self, rest: Remainder) -> Fate:
        """It runs there, and asks for what it has not got. Its memory here is the only one until it
        has all, so this tree is not given up before."""
        with undisturbed():
            self._lost = rest.give()
        self.nr_late_bytes = rest.nr_bytes
        self.total_us = (time.monotonic_ns() - self._began_ns) // 1000
        return Fate.STOP if self._lost else Fate.END

    def conclude(self) -> None:
        """After the dump: raises HarmError where it is not known what came of the tree, or where
        it lacks memory there."""
        if self._lost:
            raise HarmError(
                "it may lack memory there, which is still here; it is left stopped here",
                pid=self._options.dump.tree,
                why=f"{self._control.peer}: {self._lost}",
                hint="look there; if it runs, kill it here, else kill it there and have it go on "
                "here: kill -CONT",
            )
        if self._outcome is Outcome.UNKNOWN:
            raise HarmError(
                "the connection was lost while the tree changed hands; it is left stopped here",
                pid=self._options.dump.tree,
                why=f"{self._control.peer} does not say whether it runs there",
                hint="look there; if it runs, kill it here, else have it go on: kill -CONT",
            )

    def _let_go_of(self, tree: SeizedTree) -> Fate:
        alive = [task for task in tree.tasks.values() if not task.zombie]
        pids = [task.pid for task in alive]
        wire.send(self._control, "pids", pids=pids, lazy=self._options.lazy)
        wire.expect(self._control, "pids")
        queuedstop.queue(alive)
        try:
            wire.send(self._control, "go")
        except PeerError:
            queuedstop.take_back(alive)
            raise
        frame = self._answer()
        now = time.monotonic_ns()
        self.downtime_us = (now - tree.frozen_at_ns) // 1000
        self.total_us = (now - self._began_ns) // 1000
        if self._outcome is Outcome.COMMITTED:
            with suppress(PeerError):
                wire.send(self._control, "thanks")
            return Fate.END
        if self._outcome is Outcome.UNKNOWN:
            with suppress(PeerError):
                wire.send(self._control, "over")
            return Fate.STOP
        queuedstop.take_back(alive)
        raise PeerError(
            "could not let the tree run", resource=self._control.peer, why=frame or "it gave up"
        )

    def _answer(self) -> str:
        """Finds out the outcome; what was said to it."""
        try:
            frame = wire.receive(self._control)
        except PeerError:
            frame = wire.Frame("lost")
        if frame.kind == "aborted":
            self._outcome = Outcome.ABORTED
            why = frame.fields.get("why")
            return why[:2000] if isinstance(why, str) else ""
        self._outcome = Outcome.COMMITTED if frame.kind == COMMITTED else self._ask()
        return ""

    def _ask(self) -> Outcome:
        """Over a connection of its own, until somebody answers or ASK_S are over."""
        until = time.monotonic() + ASK_S
        while time.monotonic() < until:
            with suppress(PeerError):
                stream = connected(self._options.to, self._options.tls)
                try:
                    wire.send(stream, hello.OUTCOME, id=self._ident)
                    said = wire.expect(stream, "outcome").text("outcome")
                finally:
                    stream.close()
                if said in (Outcome.COMMITTED.name, Outcome.ABORTED.name):
                    return Outcome[said]
            time.sleep(_NAP_S)
        return Outcome.UNKNOWN
