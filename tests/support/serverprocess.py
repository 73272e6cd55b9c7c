"""A `ckpt page-server` of its own process, started and ended by a test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckpt.images.pageserver.sender import PageSender, ServerAddress
from tests.requirements import require
from tests.support.ckptcmd import CKPT, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ckpt.images.pageserver.tls import TlsOptions


@dataclass
class ServerProcess:
    """A server that listens. `address` and `port` are what it said."""

    process: subprocess.Popen[str]
    address: str
    port: int

    @property
    def where(self) -> ServerAddress:
        return ServerAddress(self.address, self.port)

    def sender(self, tls: TlsOptions | None = None) -> PageSender:
        return PageSender(self.where, tls)

    def ends(self, exit_code: int, *words: str, timeout_s: float = 60) -> str:
        """What it printed after the first line; asserts how it ends and what it says."""
        out, err = self.process.communicate(timeout=timeout_s)
        assert self.process.returncode == exit_code, err
        missing = [word for word in words if word not in err]
        assert not missing, err
        return out


@contextmanager
def page_server(
    images: Path,
    *options: str | Path | int,
    pass_fds: tuple[int, ...] = (),
    prepare: Callable[[], None] | None = None,
) -> Iterator[ServerProcess]:
    """A server in the foreground, which a sender can reach; `prepare` runs in it first."""
    require(installed(), "ckpt is not installed beside this Python")
    words = [str(CKPT), "page-server", "-D", str(images), "--json", *map(str, options)]
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        pass_fds=pass_fds,
        preexec_fn=prepare,
    ) as process:
        try:
            assert process.stdout is not None
            said: dict[str, Any] = {"address": "", "port": 0}
            if "--ps-socket" not in options:
                line = process.stdout.readline()
                assert line, process.communicate()[1]
                said = json.loads(line)
            yield ServerProcess(process, said["address"], said["port"])
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
                process.kill()
