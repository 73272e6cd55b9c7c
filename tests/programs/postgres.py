"""A PostgreSQL cluster of its own, run by nobody, as Debian's programs refuse to be run by root."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.requirements import require
from tests.support.case import Case
from tests.support.victim import Victim
from tests.support.waiting import wait_until

PORT = 7432
NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "port": str(PORT),
    "shared_buffers": "8MB",
    "fsync": "off",
    "autovacuum_naptime": "1s",
    "autovacuum": "on",
}


def programs() -> Path:
    """The folder of the newest version's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    require(found and shutil.which("setpriv"), "postgresql is not installed")
    return found[-1].parent


@dataclass
class Cluster:
    """A running server, and how to be its client, from where it is: `inside` are the words that
    lead there."""

    bin: Path
    folder: Path
    server: Victim
    inside: tuple[str, ...] = ()

    def client(self, program: str, *words: str) -> list[str]:
        where = ("-h", "127.0.0.1", "-p", str(PORT), "-U", "nobody")
        return [*self.inside, str(self.bin / program), *where, *words]

    def run(self, program: str, *words: str) -> str:
        """What a client says that succeeds."""
        run = subprocess.run(
            self.client(program, *words), capture_output=True, text=True, timeout=120, check=False
        )
        assert run.returncode == 0, f"{program}: {run.stderr}\n{self.server.out}"
        return run.stdout

    def ask(self, sql: str) -> str:
        return self.run("psql", "-XAtqc", sql, "postgres").strip()

    def accepts(self) -> bool:
        return subprocess.run(self.client("pg_isready", "-q"), check=False).returncode == 0

    def stop(self) -> None:
        """Ends by itself, with all that it has written."""
        os.kill(self.server.pid, signal.SIGINT)
        status = os.waitpid(self.server.pid, 0)[1]
        self.server.process.returncode = 0
        assert status == 0, self.server.out
        assert "database system is shut down" in self.server.out

    def remove_segment(self) -> None:
        """The one of System V that tells servers of the same data, for a server that will not do it
        any more; it goes with its last user."""
        told = (self.folder / "data" / "postmaster.pid").read_text().splitlines()
        subprocess.run(["ipcrm", "-m", told[6].split()[1]], check=False)


@contextmanager
def running(case: Case, **more: str) -> Iterator[Cluster]:
    """A new cluster, which accepts connections. `more`: settings."""
    folder = case.folder / "cluster"
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    data = str(folder / "data")
    bin_folder = programs()
    words = ("-D", data, "-U", "nobody", "-A", "trust", "-N", "--no-locale", "-E", "UTF8")
    subprocess.run(
        [*AS_NOBODY, str(bin_folder / "initdb"), *words],
        cwd="/",
        env={"PATH": os.environ["PATH"]},
        stdout=subprocess.DEVNULL,
        timeout=60,
        check=True,
    )
    settings = [f"-c{name}={value}" for name, value in (SETTINGS | more).items()]
    server = case.start_command(
        *AS_NOBODY, str(bin_folder / "postgres"), "-D", data, "-k", str(folder), *settings
    )
    cluster = Cluster(bin_folder, folder, server)
    wait_until(server.pid, cluster.accepts, 120, every_ms=50)
    try:
        yield cluster
    except BaseException:
        cluster.remove_segment()
        raise
