"""Entries of sockets as images have them, for tests that change one field."""

from __future__ import annotations

from typing import Any

from ckpt.images.types import message_class

FOWN = {"uid": 0, "euid": 0, "signum": 0, "pid_type": 0, "pid": 0}
INETSK, PACKETSK, NETLINKSK = 4, 10, 13


def new(ref: str, **fields: Any) -> Any:
    cls: Any = message_class(ref)
    return cls(**fields)


SK_OPTS = {
    **dict.fromkeys(("so_sndbuf", "so_rcvbuf"), 8192),
    **dict.fromkeys(
        (f"so_{way}_tmo_{unit}" for way in ("snd", "rcv") for unit in ("sec", "usec")), 0
    ),
}


def inet(opts: dict[str, Any] | None = None, **fields: Any) -> Any:
    sort = {"family": 2, "type": 1, "proto": 6, "state": 10}
    ends = {"src_port": 9, "dst_port": 0, "src_addr": [0], "dst_addr": [0]}
    known = {"id": 1, "ino": 5, "flags": 2, "backlog": 1, "fown": FOWN, **sort, **ends}
    message = {**known, "opts": {**SK_OPTS, **(opts or {})}, **fields}
    return new("fdinfo.file_entry", type=INETSK, id=1, isk=message)


def stream(payload: bytes = b"", **fields: Any) -> Any:
    known = dict.fromkeys(("inq_len", "inq_seq", "outq_len", "outq_seq", "opt_mask"), 0)
    message = {**known, "snd_wscale": 0, "mss_clamp": 1460, **fields}
    return (new("tcp_stream.tcp_stream_entry", **message), payload)


def inet_option(level: int = 1, name: int = 29, value: bytes = b"1234", **fields: Any) -> Any:
    options = [{"level": level, "name": name, "value": value}]
    known = {"id": 1, "uid": 0, "gid": 0, "options": options}
    return new("ckpt_inet.ckpt_inet_entry", **{**known, **fields})


def membership(**fields: Any) -> Any:
    known = {"device": "lo", "group": b"abcd", "mode": 0, "sources": []}
    return inet_option(options=[], memberships=[{**known, **fields}])


def netlink(**fields: Any) -> Any:
    ports = dict.fromkeys(("protocol", "state", "portid", "dst_portid", "dst_group"), 0)
    known = {"id": 1, "ino": 5, "flags": 2, "fown": FOWN, "opts": SK_OPTS, **ports}
    return new("fdinfo.file_entry", type=NETLINKSK, id=1, nlsk={**known, **fields})


def packet(**fields: Any) -> Any:
    numbers = ("protocol", "ifindex", "version", "reserve", "timestamp", "copy_thresh")
    flags = dict.fromkeys(("aux_data", "orig_dev", "vnet_hdr", "loss"), False)
    known = {"id": 1, "type": 3, "flags": 2, "fown": FOWN, "opts": SK_OPTS, **flags}
    message = {**known, **dict.fromkeys(numbers, 0), **fields}
    return new("fdinfo.file_entry", type=PACKETSK, id=1, psk=message)


def extra(options: Any = (), **fields: Any) -> Any:
    known = {"id": 1, "uid": 0, "gid": 0, "options": options}
    return new("ckpt_sock.ckpt_sock_entry", **{**known, **fields})


RING = dict.fromkeys(
    (
        *("block_size", "block_nr", "frame_size", "frame_nr"),
        *("retire_tmo", "sizeof_priv", "features"),
    ),
    1,
)
FRAMES = {**RING, "block_size": 4096, "block_nr": 2, "frame_size": 2048, "frame_nr": 4}


def ring_head(**fields: Any) -> Any:
    known = {"id": 1, "head": 0, "full": False}
    return new("ckpt_packet_ring.ckpt_packet_ring_entry", **{**known, **fields})


def ring_kept(**fields: Any) -> Any:
    known = {"id": 1, "slot": 0, "data": b"a"}
    return new("ckpt_packet_ring.ckpt_packet_kept_entry", **{**known, **fields})
