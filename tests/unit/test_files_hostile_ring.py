"""Images of rings of packet sockets that nobody's dump would write: refused, nothing is opened."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ckpt.errors import ImageError
from ckpt.files import FilesRestore, RestoreFileOptions
from ckpt.images.reader import ImageSet
from tests.support import descriptors as ds
from tests.support.socket_entries import (
    FRAMES,
    PACKETSK,
    RING,
    new,
    packet,
    ring_head,
    ring_kept,
)

HEADS, KEPT = "ckpt-packet-ring", "ckpt-packet-kept"
Case = tuple[dict[str, Any], dict[str, list[Any]], str]

HOSTILE: dict[str, Case] = {
    "to send from": ({"tx_ring": RING}, {}, "a ring for sending"),
    "small frames": ({"rx_ring": RING}, {}, "frames of no known size"),
    "of no version": ({"rx_ring": FRAMES, "version": 3}, {}, "known kind"),
    "frames": ({"rx_ring": {**FRAMES, "frame_nr": 5}}, {}, "number of frames"),
    "large": ({"rx_ring": {**FRAMES, "block_nr": 1 << 20, "frame_nr": 1 << 21}}, {}, "size"),
    "large blocks": (
        {"rx_ring": {**FRAMES, "block_size": 1 << 26, "frame_nr": 1 << 16}, "version": 2},
        {},
        "32 MiB",
    ),
    "a head": ({"rx_ring": FRAMES}, {HEADS: [ring_head(head=4)]}, "slot 4"),
    "a head of none": ({}, {HEADS: [ring_head()]}, "no socket"),
    "two heads": ({"rx_ring": FRAMES}, {HEADS: [ring_head(), ring_head()]}, "twice"),
    "full": ({"rx_ring": FRAMES}, {HEADS: [ring_head(full=True)]}, "full"),
    "a slot": ({"rx_ring": FRAMES}, {HEADS: [ring_head()], KEPT: [ring_kept(slot=4)]}, "no ring"),
    "a slot of none": ({"rx_ring": FRAMES}, {KEPT: [ring_kept()]}, "no ring"),
    "two slots": (
        {"rx_ring": FRAMES},
        {HEADS: [ring_head()], KEPT: [ring_kept(), ring_kept()]},
        "twice",
    ),
    "a large slot": (
        {"rx_ring": FRAMES},
        {HEADS: [ring_head()], KEPT: [ring_kept(data=bytes(2049))]},
        "larger than a slot",
    ),
}


@pytest.mark.parametrize(("fields", "images", "text"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile(
    fields: dict[str, Any], images: dict[str, list[Any]], text: str, tmp_path: Path
) -> None:
    fd = new("fdinfo.fdinfo_entry", id=1, flags=0, type=PACKETSK, fd=3)
    ds.write_set(tmp_path, {"files": [packet(**fields)], "fdinfo-1": [fd], **images})
    with ImageSet(tmp_path) as saved:
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ImageError, match=text):
            FilesRestore(saved, RestoreFileOptions(), {7: 1})
        assert len(os.listdir("/proc/self/fd")) == before
