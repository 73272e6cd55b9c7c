"""tmux: a server as a victim, and its clients."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from functools import partial
from pathlib import Path

from tests.requirements import require
from tests.support import processes
from tests.support.case import Case
from tests.support.terminals import high_numbers
from tests.support.victim import Victim
from tests.support.waiting import wait_until


class Session:
    """A tmux server as a victim, with one session of bash."""

    def __init__(self, case: Case) -> None:
        require(shutil.which("tmux"), "tmux is not installed")
        self.socket = case.folder / "tmux"
        # Not a daemon: it is ours to watch.
        self.server: Victim = case.start_command(
            "tmux", "-S", str(self.socket), "-D", "-f/dev/null"
        )
        self.folder = self.server.folder
        wait_until(self.server.pid, partial(_listens, self.socket))
        with high_numbers():
            self.run(
                "new-session", "-d", "-x", "60", "-y", "20", "-c", str(self.folder), "bash --norc"
            )
        self.run("set", "-g", "status", "off")

    def run(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", self.socket, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{words}: {done.stderr}"
        return done.stdout

    def type(self, text: str) -> None:
        self.run("send-keys", "-l", text)

    def enter(self, text: str) -> None:
        self.type(text)
        self.run("send-keys", "Enter")

    @property
    def screen(self) -> str:
        return self.run("capture-pane", "-p")

    def shows(self, text: str) -> bool:
        return text in self.screen

    def until_shown(self, text: str) -> None:
        try:
            wait_until(self.server.pid, partial(self.shows, text))
        except AssertionError as error:
            raise AssertionError(f"{error}: {text!r} in:\n{self.screen}") from error

    def until_running(self, name: str) -> None:
        """A program runs in the foreground: its group is put there before it goes on."""

        def runs(pid: int) -> bool:
            return processes.name(pid) == name and processes.state(pid) != "T"

        wait_until(self.server.pid, lambda: any(map(runs, self.server.tree)))

    def until_ended(self, name: str) -> None:
        """No program of this name is left."""
        wait_until(
            self.server.pid, lambda: all(processes.name(pid) != name for pid in self.server.tree)
        )

    def until_alone(self) -> None:
        """No client is connected any more, be it for a command: the server listens, that is all."""
        table = Path(f"/proc/{self.server.pid}/fd")

        def alone() -> bool:
            links = (str(link.readlink()) for link in table.iterdir())
            try:
                return sum(link.startswith("socket:") for link in links) == 1
            except FileNotFoundError:  # closed while we looked
                return False

        wait_until(self.server.pid, alone)


def _listens(path: Path) -> bool:
    """Whether a socket of that name has been bound, and listens: whoever is refused there starts a
    server of its own. The fourth column is of flags, see unix_seq_show() in net/unix/af_unix.c."""
    rows = (line.split() for line in Path("/proc/net/unix").read_text().splitlines())
    return any(row[-1] == str(path) and row[3] == "00010000" for row in rows)


class Client:
    """`tmux attach` on a terminal of ours."""

    def __init__(self, session: Session) -> None:
        self._master, slave = pty.openpty()
        self._session = session
        self._seen = b""
        self._process = subprocess.Popen(
            ["tmux", "-S", session.socket, "attach"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            env={**os.environ, "TERM": "screen", "TMUX": ""},
        )
        os.close(slave)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until_shown(self, text: str) -> None:
        while text.encode() not in self._seen:
            more = os.read(self._master, 4096)
            assert more, self._seen
            self._seen += more

    def close(self) -> None:
        """When it has been told to end."""
        try:
            while os.read(self._master, 4096):
                pass
        except OSError:  # EIO: it is gone
            pass
        self._process.wait(60)
        os.close(self._master)
