"""A chain of sets made of one tree, in this very process: quicker than a command for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ckpt.dump.options import DumpOptions
from ckpt.dump.pre_dump import pre_dump
from ckpt.dump.run import dump
from ckpt.images.chain import Chain
from ckpt.images.pagemap import PE_PARENT, PE_PRESENT
from ckpt.report import Report
from tests.fault.injection import Faults, run


class Listening(Report):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def said(self, words: str) -> bool:
        return any(words in text for text in self.warnings)


def restored(folder: Path, *words: str) -> None:
    """Restore the set in `folder`, in a child of ours, so that nothing that a restore does to its
    own process stays. The tree becomes our child when that one has ended."""
    argv = ["restore", "-D", str(folder), "-W", str(folder), "-d", *words]
    end = run(argv, Faults(), folder / "restore.log")
    assert end.code == 0, str(end)


@dataclass
class Sets:
    """The sets of the tree `pid` in numbered folders of `folder`, which is made; `newest` is 0
    while there is none. `report` is that of the last call."""

    folder: Path
    pid: int
    mode: str
    newest: int = 0
    report: Listening = field(default_factory=Listening)

    def __post_init__(self) -> None:
        self.folder.mkdir()

    @property
    def path(self) -> Path:
        return self.folder / str(self.newest)

    def pre_dump(self) -> None:
        """Another round, building on the set before."""
        pre_dump(self._options(), self.report)

    def dump(self, *, file_locks: bool = False) -> None:
        """The last set; the tree is killed."""
        dump(self._options(file_locks=file_locks), self.report)

    def restore(self, *words: str) -> None:
        """The newest set; the tree becomes our child."""
        restored(self.path, *words)

    def count(self, flag: int) -> int:
        """How many pages of all tasks have this flag in the newest set."""
        with Chain(self.path) as chain:
            newest = chain.layers[0]
            return sum(
                run.nr_pages
                for number in newest.names("pagemap")
                for run in newest.pagemap(f"pagemap-{number}").runs
                if run.flags & flag
            )

    @property
    def in_parent(self) -> int:
        return self.count(PE_PARENT)

    @property
    def present(self) -> int:
        return self.count(PE_PRESENT)

    def _options(self, *, file_locks: bool = False) -> DumpOptions:
        prev = f"../{self.newest}" if self.newest else ""
        self.newest += 1
        self.path.mkdir()
        self.report = Listening()
        return DumpOptions(
            tree=self.pid,
            images_dir=self.path,
            work_dir=self.path,
            prev_images_dir=prev,
            track_mode=self.mode,
            file_locks=file_locks,
        )
