"""Something that happens between two steps of a dump, which tells its report where it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ckpt.report import Report


@dataclass
class Between(Report):
    """Calls `act` when the stage `stage` begins for the `nr`-th time; keeps what is said."""

    stage_name: str
    act: Callable[[], None]
    nr: int = 1
    warnings: list[str] = field(default_factory=list)
    infos: list[str] = field(default_factory=list)

    def stage(self, name: str) -> None:
        if name == self.stage_name:
            self.nr -= 1
            if self.nr == 0:
                self.act()

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def info(self, text: str) -> None:
        self.infos.append(text)

    def warned(self, words: str) -> bool:
        return any(words in text for text in self.warnings)
