"""A network of one's own with nothing but its loopback device, and its nftables by pyroute2."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from pyroute2.nftables.main import NFTables

from tests.support.procfd import libc

_CLONE_NEWNET, _SIOCSIFFLAGS, _IFF_UP = 0x40000000, 0x8914, 1


@contextmanager
def own_network() -> Iterator[None]:
    """For this thread and what it starts: tests beside this one have other rules."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        assert libc.unshare(_CLONE_NEWNET) == 0
        with socket.socket() as sock:
            up = struct.pack("16sh14x", b"lo", _IFF_UP)
            fcntl.ioctl(sock, _SIOCSIFFLAGS, up)
        yield
    finally:
        assert libc.setns(home, _CLONE_NEWNET) == 0
        os.close(home)


def tables() -> set[str]:
    """Their names."""
    with NFTables(nfgen_family=1) as nft:
        return {str(table.get_attr("NFTA_TABLE_NAME")) for table in nft.get_tables()}
