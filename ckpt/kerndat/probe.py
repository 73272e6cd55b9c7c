"""A probe: one question to the kernel, what the answer is needed for, and what is lost without it.

A probe function returns what it has to say (`Finding`, or None for a plain yes) and raises OSError
(or a CkptError) for a no. Nothing else may come out of it: an answer is always an answer.
"""

from __future__ import annotations

import os
from enum import Enum
from typing import TYPE_CHECKING

from ckpt.errors import CkptError
from ckpt.record import record

if TYPE_CHECKING:
    from collections.abc import Callable


class State(Enum):
    """LIMITED works, but not for everything; the finding says what is left out."""

    OK = "ok"
    LIMITED = "limited"
    MISSING = "missing"


class Need(Enum):
    """Who needs a feature."""

    HOST = "every dump and restore"
    TREE = "trees that use it"
    BETTER = "speed, or less disturbance"
    LATER = "what ckpt does not do yet"


@record(frozen=True)
class Finding:
    """An answer. `detail` says what was found, or why not."""

    state: State
    detail: str = ""

    @property
    def supported(self) -> bool:
        """Whether `--feature` says yes: what is limited is there."""
        return self.state is not State.MISSING


@record(frozen=True)
class Probe:
    """One feature. `criu`: its names in `criu check --feature`, where CRIU has it."""

    name: str
    need: Need
    purpose: str
    loss: str
    ask: Callable[[], Finding | None]
    criu: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names that it answers to, its own first."""
        return (self.name, *(name for name in self.criu if name != self.name))

    def run(self) -> Finding:
        """The answer of this kernel, now."""
        try:
            return self.ask() or Finding(State.OK)
        except OSError as error:
            return Finding(State.MISSING, error.strerror or os.strerror(error.errno or 0))
        except CkptError as error:
            return Finding(State.MISSING, str(error))


def probe(
    name: str, need: Need, purpose: str, loss: str, *, criu: tuple[str, ...] = ()
) -> Callable[[Callable[[], Finding | None]], Probe]:
    """Make a probe of the function below."""

    def made(ask: Callable[[], Finding | None]) -> Probe:
        return Probe(name, need, purpose, loss, ask, criu)

    return made


def ok(detail: str) -> Finding:
    """Yes, with something to tell."""
    return Finding(State.OK, detail)


def limited(detail: str) -> Finding:
    """Yes, but."""
    return Finding(State.LIMITED, detail)


def missing(detail: str) -> Finding:
    """No, and why."""
    return Finding(State.MISSING, detail)
