"""What one option is. The tables of them are in ckpt.cli.options; nothing here knows a name."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

from ckpt.record import record


class Status(StrEnum):
    IMPLEMENTED = "implemented"
    ACCEPTED = "accepted without effect"
    REFUSED = "refused"


@record(eq=False)
class Option:
    """One option under all its spellings.

    `arg`: the argument's name in the help, empty for a flag. `arg_optional`: it must then be
    joined (`--name=VALUE`, `-nVALUE`). `verbs`: where it means something; elsewhere it is accepted
    with a note, as CRIU's single list of options demands. `why`: for what is not implemented, one
    clause. `dest`: the name of the value, by default `name` with underscores. `parse` turns the
    argument's text into the value and raises ValueError; a flag sets `value`.
    `repeat`: every occurrence is kept, in order. `clears`: values that it takes back.
    `merge` replaces `parse` where the value depends on the one before, which at first is `initial`.
    """

    name: str
    text: str
    short: str = ""
    arg: str = ""
    arg_optional: bool = False
    verbs: tuple[str, ...] = ("dump", "restore")
    status: Status = Status.IMPLEMENTED
    why: str = ""
    dest: str = ""
    parse: Callable[[str], Any] = str
    value: Any = True
    repeat: bool = False
    negatable: bool = False
    clears: tuple[str, ...] = ()
    merge: Callable[[Any, str | None], Any] | None = None
    initial: Any = None
    criu: bool = True

    @property
    def key(self) -> str:
        return self.dest or self.name.replace("-", "_")

    @property
    def spelling(self) -> str:
        """As the help and the tables show it."""
        short = f"-{self.short}, " if self.short else ""
        if not self.arg:
            return f"{short}--{self.name}"
        joined = f"[={self.arg}]" if self.arg_optional else f" {self.arg}"
        return f"{short}--{self.name}{joined}"

    @property
    def default(self) -> Any:
        if self.repeat:
            return ()
        if self.arg:
            return self.initial
        return not self.value

    def applied(self, before: Any, argument: str | None, *, negated: bool) -> Any:
        """The value after one more occurrence. Raises ValueError for a wrong argument."""
        if negated:
            return not self.value
        if self.merge is not None:
            return self.merge(before, argument)
        if not self.arg:
            return self.value
        parsed = self.parse(argument or "")
        return (*before, parsed) if self.repeat else parsed
