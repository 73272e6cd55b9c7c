"""Running the installed `ckpt` command, with its log at hand when something fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CKPT = Path(sys.executable).with_name("ckpt")


@dataclass
class Result:
    """How one command ended. `log` is what it wrote to its log file."""

    argv: list[str]
    exit_code: int
    stdout: str
    stderr: str
    log: str = field(repr=False)

    def __str__(self) -> str:
        return (
            f"$ {' '.join(self.argv)}\nexit code {self.exit_code}\n"
            f"--- stdout\n{self.stdout[-2000:]}\n--- stderr\n{self.stderr[-6000:]}\n"
            f"--- log\n{self.log[-8000:]}"
        )

    def ok(self) -> Result:
        """Itself, after asserting that the command succeeded."""
        assert self.exit_code == 0, str(self)
        return self

    def failed(self, exit_code: int, *words: str) -> Result:
        """Itself, after asserting the exit code and that its messages hold every one of `words`."""
        assert self.exit_code == exit_code, f"wanted exit code {exit_code}\n{self}"
        said = (self.stderr + self.log).lower()
        missing = [word for word in words if word.lower() not in said]
        assert not missing, f"messages don't name {missing}\n{self}"
        return self


@dataclass(frozen=True)
class Ckpt:
    """The command with a folder for its logs; every call is bounded by `timeout_s`. `prefix` is the
    command that starts it, if any."""

    logs: Path
    timeout_s: float = 60
    prefix: tuple[str, ...] = ()

    def argv(self, verb: str, *options: str | Path | int) -> list[str]:
        return [*self.prefix, str(CKPT), verb, *(str(option) for option in options)]

    def run(self, verb: str, *options: str | Path | int, pass_fds: tuple[int, ...] = ()) -> Result:
        log = self.logs / f"{verb}.{len(list(self.logs.glob('*.log')))}.log"
        argv = self.argv(verb, *options)
        if verb in ("dump", "restore"):
            argv += ["-v4", "-o", str(log)]
        with (self.logs / "stdout").open("w+") as out, (self.logs / "stderr").open("w+") as err:
            # Files, not pipes: a restored tree may hold what its starter's output was.
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, pass_fds=pass_fds
            )
            try:
                exit_code = process.wait(self.timeout_s)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                exit_code = -999
        logged = log.read_text(errors="replace") if log.exists() else ""
        said = [(self.logs / name).read_text() for name in ("stdout", "stderr")]
        return Result(argv, exit_code, said[0], said[1], logged)

    def dump(self, pid: int, images: Path, *options: str) -> Result:
        images.mkdir(exist_ok=True)
        return self.run("dump", "-t", pid, "-D", images, *options)

    def restore(self, images: Path, *options: str, pass_fds: tuple[int, ...] = ()) -> Result:
        """Detached: returns when the tree runs, which is then a child of the test process."""
        return self.run("restore", "-D", images, "-d", *options, pass_fds=pass_fds)

    def show(self, images: Path) -> Any:
        return json.loads(self.run("show", images, "--json").ok().stdout)


def installed() -> bool:
    return os.access(CKPT, os.X_OK)
