"""Bytes to messages and back; every way in which bytes can be wrong."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from ckpt.errors import ImageError
from ckpt.images.framing import MAX_MESSAGE, decode, encode
from ckpt.images.types import message_class
from tests.support.image_set import PIPE_DATA, inventory, new

HEAD = struct.pack("<II", 0x54564319, 0x54473203)
UTS = b"\x0a\x01a\x12\x00"


def uts(node: str = "a") -> Any:
    return new("utsns.utsns_entry", nodename=node, domainname="")


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def test_an_ordinary_image() -> None:
    data = encode("utsns-1", [uts()])
    assert data == HEAD + u32(5) + UTS
    (record,) = decode("utsns-1", data)
    assert (record.message, bytes(record.payload), record.offset) == (uts(), b"", 8)


def test_the_inventory_has_one_magic() -> None:
    data = encode("inventory", [inventory()])
    assert data[:4] == u32(0x58313116)
    decoded: Any = decode("inventory", data)[0].message
    assert decoded.img_version == 2


def test_a_service_image() -> None:
    data = encode("stats-dump", [new("stats.stats_entry")])
    assert data == struct.pack("<III", 0x55105940, 0x57093306, 0)


def test_an_image_without_messages() -> None:
    assert decode("files", encode("files", [])) == []


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "ends inside its magic"),
        (HEAD[:7], "ends inside its magic"),
        (HEAD[4:] + HEAD[:4], "instead of"),
        (HEAD + b"\5\0\0", "byte 8.*inside a size"),
        (HEAD + u32(6) + UTS, "a message of 6 bytes where 5 are left"),
        (HEAD + u32(0xFFFFFFFF) + UTS, "a message of 4294967295 bytes"),
        (HEAD + u32(5) + b"\xff\xff\xff\xff\xff", "does not parse"),
        (HEAD + u32(3) + UTS[:3], "lacks domainname"),
        (HEAD + u32(5) + b"\x0a\x01\xff\x12\x00", "not UTF-8"),
        (HEAD + u32(5) + UTS + u32(5) + UTS, "byte 17.*second message"),
    ],
)
def test_damage_is_told_with_its_place(data: bytes, why: str) -> None:
    with pytest.raises(ImageError, match=f"some/utsns-1.img: .*{why}"):
        decode("utsns-1", data, "some/utsns-1.img")


def test_a_message_may_not_be_too_large() -> None:
    with pytest.raises(ImageError, match="a message of"):
        decode("utsns-1", HEAD + u32(MAX_MESSAGE + 1) + bytes(MAX_MESSAGE + 1))


def test_payload_follows_its_message() -> None:
    entry = new("pipe_data.pipe_data_entry", pipe_id=5, bytes=len(PIPE_DATA))
    empty = new("pipe_data.pipe_data_entry", pipe_id=6, bytes=0)
    data = encode("pipes-data", [(entry, PIPE_DATA), empty])
    assert [bytes(r.payload) for r in decode("pipes-data", data)] == [PIPE_DATA, b""]
    with pytest.raises(ImageError, match="payload"):
        encode("pipes-data", [(entry, PIPE_DATA[:-1])])
    cut = data.index(PIPE_DATA) + 3
    with pytest.raises(ImageError, match="a payload of 10 bytes where 3 are left"):
        decode("pipes-data", data[:cut])


def desc() -> dict[str, int]:
    return dict.fromkeys(["key", "uid", "gid", "cuid", "cgid", "mode", "id"], 1)


def test_padding_is_no_payload() -> None:
    segment = new("ipc_shm.ipc_shm_entry", desc=desc(), size=5)
    elsewhere = new("ipc_shm.ipc_shm_entry", desc=desc(), size=5, in_pagemaps=True)
    data = encode("ipcns-shm-1", [(segment, b"12345"), elsewhere])
    assert b"12345\0\0\0" in data
    assert [bytes(r.payload) for r in decode("ipcns-shm-1", data)] == [b"12345", b""]
    semaphores = new("ipc_sem.ipc_sem_entry", desc=desc(), nsems=3)
    data = encode("ipcns-sem-1", [(semaphores, b"aabbcc")])
    assert data.endswith(b"aabbcc\0\0")


def test_queued_messages_are_walked() -> None:
    queue = new("ipc_msg.ipc_msg_entry", desc=desc(), qbytes=99, qnum=2)
    text = message_class("ipc_msg.ipc_msg")(mtype=1, msize=3).SerializeToString()
    one = u32(len(text)) + text + b"abc".ljust(8, b"\0")
    data = encode("ipcns-msg-1", [(queue, one + one)])
    assert bytes(decode("ipcns-msg-1", data)[0].payload) == one + one
    for cut in range(len(data) - 2 * len(one), len(data)):
        with pytest.raises(ImageError):
            decode("ipcns-msg-1", data[:cut])
    with pytest.raises(ImageError, match="does not parse"):
        decode("ipcns-msg-1", data.replace(text, b"\xff" * len(text)))


def test_a_ghost_is_whole_or_in_chunks() -> None:
    whole = new("ghost_file.ghost_file_entry", uid=0, gid=0, mode=0o100644)
    data = encode("ghost-file-1", [(whole, b"contents")])
    assert bytes(decode("ghost-file-1", data)[0].payload) == b"contents"
    sparse = new("ghost_file.ghost_file_entry", uid=0, gid=0, mode=0o100644, chunks=True, size=99)
    chunk = new("ghost_file.ghost_chunk_entry", len=3, off=96)
    records = decode("ghost-file-1", encode("ghost-file-1", [sparse, (chunk, b"end")]))
    assert [bytes(r.payload) for r in records] == [b"", b"end"]


def test_what_can_not_be_encoded() -> None:
    with pytest.raises(ImageError, match="lacks nodename, domainname"):
        encode("utsns-1", [new("utsns.utsns_entry")])
    with pytest.raises(ImageError, match="does not hold a utsns_entry"):
        encode("files", [uts()])
    with pytest.raises(ImageError, match="one message"):
        encode("utsns-1", [uts(), uts()])
    with pytest.raises(ImageError, match="has no messages"):
        encode("pages-1", [])


def test_nested_text_is_checked() -> None:
    name = b"\x0a\x02\xff\xfe\x12\x00"  # of a controller: no name that a user chose
    ctls = b"\x08\x01\x12" + bytes([len(name)]) + name
    body = b"\x0a" + bytes([len(ctls)]) + ctls
    data = struct.pack("<III", 0x54564319, 0x59383330, len(body)) + body
    with pytest.raises(ImageError, match="not UTF-8"):
        decode("cgroup", data)
