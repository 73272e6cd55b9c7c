"""Two worlds on one wire: a veth pair between their networks, each end with an address."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.requirements import require

if TYPE_CHECKING:
    from tests.support.worlds import World

_DEVICE = "wire"
ADDRESSES = ("10.77.0.1", "10.77.0.2")


def join(first: World, second: World) -> None:
    """`first` gets the first of ADDRESSES, `second` the other; both have `net`, and nothing else in
    it. The wire ends with them."""
    _ip(first, "link", "add", _DEVICE, "type", "veth", "peer", _DEVICE, "netns", str(second.init))
    for world, address in zip((first, second), ADDRESSES, strict=True):
        _ip(world, "address", "add", f"{address}/24", "dev", _DEVICE)
        for device in ("lo", _DEVICE):
            _ip(world, "link", "set", device, "up")


def _ip(world: World, *words: str) -> None:
    """ip(8) in the network of `world` alone: it is to know our process numbers."""
    argv = ["nsenter", "-t", str(world.init), "-n", "ip", *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    require(done.returncode == 0, f"no veth pair here: {done.stderr}")
