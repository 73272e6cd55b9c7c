"""A victim whose memory changes all the time, and a store of generations of it.

The victim (tests/victims/chain/series.c) leaves a hash of its memory after each of its rounds. A
restored one must come to the same hashes.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.support.programs import program
from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.case import Case
    from tests.support.ckptcmd import Result
    from tests.support.victim import Victim

SERIES = program("chain/series")


@dataclass
class Kept:
    """The victim and its store. `victim` is dead once generations are restored."""

    case: Case
    victim: Victim = field(init=False)

    def __post_init__(self) -> None:
        self.victim = self.case.start(SERIES)
        self.store.mkdir()

    @property
    def store(self) -> Path:
        return self.case.folder / "store"

    @property
    def words(self) -> list[str]:
        return [str(self.victim.pid), "-D", str(self.store)]

    def snapshot(self, *options: str) -> Result:
        return self.case.ckpt.run("snapshot", *self.words, *options)

    def background(self, *options: str) -> subprocess.Popen[bytes]:
        """The command, which the caller ends."""
        with (self.case.folder / "said").open("ab") as said:
            argv = self.case.ckpt.argv("snapshot", *self.words, *options)
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                # A shell's background has it ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    @property
    def said(self) -> str:
        return (self.case.folder / "said").read_text()

    def generations(self) -> list[dict[str, Any]]:
        """As `ckpt show` tells of them; of no store at all it is an error."""
        shown = self.case.ckpt.run("show", self.store, "--json").ok()
        found: list[dict[str, Any]] = json.loads(shown.stdout)["generations"]
        assert not [one for one in found if one["broken"]]
        return found

    def await_round(self, more: int = 2) -> None:
        """Until the victim has proved some more rounds, so that whoever is restored from what was
        dumped before meets the hashes of the next."""
        wanted = self._round() + more
        wait_until(self.victim.pid, lambda: self._round() >= wanted)

    def _round(self) -> int:
        with (self.victim.folder / "hashes").open("rb") as hashes:
            return int.from_bytes(hashes.read(8), "little")

    def end_victim(self) -> None:
        """It is killed; what is restored from now on stops after its next round."""
        self.await_round()
        os.kill(self.victim.pid, signal.SIGKILL)
        self.victim.await_gone([self.victim.pid])
        (self.victim.folder / "stop").touch()

    def prove(self, number: int, *options: str) -> None:
        """Restore one generation, which must come to the hash that the victim had."""
        (self.victim.folder / "out").write_text("")
        self.case.ckpt.restore(self.store, "--at", str(number), *options).ok()
        self.victim.verdict(60)

    def prove_all(self) -> list[int]:
        """Every generation that there is."""
        numbers = [int(one["number"]) for one in self.generations()]
        for number in numbers:
            self.prove(number)
        return numbers
