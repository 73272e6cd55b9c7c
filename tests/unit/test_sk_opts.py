"""Options of sockets, from one socket to another."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from ckpt.files import sk_opts
from ckpt.images.types import message_class
from ckpt.report import Report
from tests.requirements import require

NOBODY = 65534
SO_MARK = 36


class Warnings(Report):
    """Those that there were."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def warn(self, text: str) -> None:
        self.found.append(text)


def saved(sock: socket.socket) -> Any:
    made = message_class("sk_opts.sk_opts_entry")()
    sk_opts.write(sk_opts.ask(sock), made)
    return made


@pytest.mark.parametrize("mark", [1, 0x7FFF_FFFF, -99])
def test_a_mark_may_have_any_bit(mark: int) -> None:
    require(os.geteuid() == 0, "a mark needs CAP_NET_ADMIN")
    with socket.socket() as old, socket.socket() as new:
        old.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
        sk_opts.apply(Report(), new, saved(old), "socket")
        assert new.getsockopt(socket.SOL_SOCKET, SO_MARK) == mark


def as_nobody(wanted: int) -> tuple[int, list[str]]:
    """The size of a buffer, and warnings, of a process without any privilege."""
    theirs, ours = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            warnings = Warnings()
            with socket.socket() as sock:
                sk_opts.set_buffer(warnings, sock, sk_opts.SEND, wanted, "socket 1")
                size = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            os.write(ours, json.dumps([size, warnings.found]).encode())
        finally:
            os._exit(0)
    os.close(ours)
    with os.fdopen(theirs, "rb") as pipe:
        size, found = json.loads(pipe.read())
    os.waitpid(pid, 0)
    return size, found


def test_without_privileges_a_buffer_is_as_large_as_it_may_be() -> None:
    require(os.geteuid() == 0, "only root can become somebody else")
    most = 2 * int(Path("/proc/sys/net/core/wmem_max").read_text())
    assert as_nobody(most // 2) == (most // 2, [])
    size, (warning,) = as_nobody(most + 4096)
    assert size == most
    assert warning == f"socket 1: a buffer has {most} bytes, before the dump {most + 4096}"
