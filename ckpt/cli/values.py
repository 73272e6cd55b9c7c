"""Text of an argument to its value. Each function raises ValueError with what was expected; the
parser adds which option and which text."""

from __future__ import annotations

import math
import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckpt.ns.join import Joined
    from ckpt.restore.options import InheritFd
    from ckpt.store.generations import Wanted

EXTERNAL_KINDS = ("file", "tty", "pidfd", "unix")
EXTERNAL_NOT_YET = {
    "mnt": "mount namespaces",
    "dev": "mount namespaces",
    "veth": "network namespaces",
    "macvlan": "network namespaces",
    "netdev": "network namespaces",
    "net": "network namespaces",
    "pid": "pid namespaces",
}
CPU_CAPS = ("fpu", "ins", "cpu")
_MAX_KEEP = 200

_INHERIT = re.compile(r"fd\[(\d{1,9})\]:(.+)", re.DOTALL)
_EXTERNAL = re.compile(r"([a-z]+):?\[(.*)\](:.*)?", re.DOTALL)


def pid(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 2**22:
        raise ValueError("a pid is a number from 1 to 4194304")
    return int(text)


def lfd(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) >= 2**31:
        raise ValueError("a descriptor is a number from 0")
    return int(text)


def join_ns(text: str) -> Joined:
    """NS:PID or NS:FILE"""
    from ckpt.ns.join import KINDS, Joined

    kind, colon, where = text.partition(":")
    if not colon or not where:
        raise ValueError("the form is NS:PID or NS:FILE")
    if kind not in KINDS:
        raise ValueError(f"of namespaces {', '.join(KINDS)} can be joined")
    return Joined(kind, f"/proc/{pid(where)}/ns/{kind}" if where.isdigit() else where)


def port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise ValueError("a port is a number from 0 to 65535")
    return int(text)


def host_and_port(text: str) -> tuple[str, int]:
    """HOST:PORT, with the host of IPv6 in brackets."""
    host, colon, number = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not host or not number or port(number) == 0:
        raise ValueError("HOST:PORT or [IPV6]:PORT")
    return host, port(number)


def migrate_mode(text: str) -> str:
    if text not in ("precopy", "postcopy", "hybrid"):
        raise ValueError("precopy, postcopy or hybrid")
    return text


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ValueError("a time is a number of seconds, 0 for none")
    return value


def rounds(text: str) -> int:
    """A number of rounds; 0 stands for auto."""
    if text == "auto":
        return 0
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 255:
        raise ValueError("rounds are auto, or a number from 1 to 255")
    return int(text)


def number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 2**31:
        raise ValueError("a number from 1")
    return int(text)


def interval(text: str) -> float:
    value = seconds(text)
    if value < 0.001:
        raise ValueError("an interval is a number of seconds, at least 0.001")
    return value


def duration(text: str) -> float:
    """Seconds, from a number with ms, s, m or h behind it; seconds without one."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s|m|h|)", text, re.ASCII)
    unit = {"ms": 0.001, "s": 1, "": 1, "m": 60, "h": 3600}
    value = float(match[1]) * unit[match[2]] if match else 0.0
    if value < 0.001:
        raise ValueError("a time is a number with ms, s, m or h behind it, at least 1ms")
    return value


def keep(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= _MAX_KEEP:
        raise ValueError(f"a number of generations is one from 1 to {_MAX_KEEP}")
    return int(text)


def generation(text: str) -> Wanted:
    """A number, `latest`, or a time: in local time unless it says otherwise, or `-10m` for ago."""
    import time
    from datetime import datetime

    from ckpt.store.generations import Wanted

    if text == "latest":
        return Wanted()
    if text.isascii() and text.isdigit():
        return Wanted(number=int(text))
    if text.startswith("-"):
        return Wanted(instant_ms=round((time.time() - duration(text[1:])) * 1000))
    if re.fullmatch(r"\d\d:\d\d.*", text, re.ASCII):
        text = f"{datetime.now().date()}T{text}"
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            "a generation is a number, latest, or a time like 14:30, 2026-11-21T14:30:05Z or -10m"
        ) from None
    return Wanted(instant_ms=round(instant.timestamp() * 1000))


def milliseconds(text: str) -> float:
    value = seconds(text)
    if not value:
        raise ValueError("a time is a number of milliseconds above 0")
    return value


def track_mode(text: str) -> str:
    if text not in ("async", "sync"):
        raise ValueError("a mode is async or sync")
    return text


def live(text: str) -> str:
    if not text:
        return "auto"
    if text not in ("wp", "fork", "auto"):
        raise ValueError("an engine is wp, fork or auto")
    return text


def live_catch(text: str) -> str:
    if text not in ("auto", "always"):
        raise ValueError("a mode is auto or always")
    return text


def live_memory(text: str) -> int:
    value = size(text)
    if value < 4 << 20:
        raise ValueError("buffers take at least 4M")
    return value


def percent(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 100:
        raise ValueError("a percentage is a number from 1 to 100")
    return int(text)


def file_validation(text: str) -> str:
    if text not in ("filesize", "buildid"):
        raise ValueError("a method is filesize or buildid")
    return text


def pre_dump_mode(text: str) -> str:
    if text not in ("splice", "read"):
        raise ValueError("a mode is splice or read")
    return text


def size(text: str) -> int:
    """Bytes, with CRIU's K, M and G (powers of 1024)."""
    match = re.fullmatch(r"(\d{1,15})([KMG]?)", text, re.ASCII)
    if not match:
        raise ValueError("a size is a number of bytes, or one with K, M or G behind it")
    return int(match[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[match[2]]


def log_level(before: int, text: str | None) -> int:
    """`-v4` sets 4; `-v` adds one, `-vv` (which arrives as "v") two."""
    if text is None or not text.strip("v"):
        return before + 1 + len(text or "")
    if not text.isascii() or not text.isdigit():
        raise ValueError("a level is a number from 0 to 4")
    return int(text)


def folder(text: str) -> str:
    if not text:
        raise ValueError("a folder has a name")
    return text


def inherit_fd(text: str) -> InheritFd:
    """`fd[LFD]:RESOURCE`; the descriptor must be open here."""
    from ckpt.restore.options import InheritFd

    match = _INHERIT.fullmatch(text)
    if not match:
        raise ValueError("the form is fd[NUMBER]:RESOURCE")
    number = int(match[1])
    try:
        os.fstat(number)
    except OSError as e:
        raise ValueError(f"descriptor {number} is not open here: {e.strerror}") from e
    return InheritFd(number, match[2])


def external(text: str) -> str:
    """`KIND[ID]` or `KIND[ID]:VALUE`, of a kind that is outside the tree and can stay there."""
    match = _EXTERNAL.fullmatch(text)
    if not match:
        raise ValueError("the form is KIND[ID] or KIND[ID]:VALUE")
    kind = match[1]
    if kind in EXTERNAL_NOT_YET:
        raise ValueError(f"{EXTERNAL_NOT_YET[kind]} are not supported yet")
    if kind not in EXTERNAL_KINDS:
        raise ValueError(f"a kind is one of {', '.join(EXTERNAL_KINDS)}")
    return text


def inodes(text: str) -> frozenset[int]:
    """A comma-separated list of inode numbers; none of them means any."""
    words = text.split(",") if text else []
    if not all(re.fullmatch(r"[1-9]\d{0,9}", word, re.ASCII) for word in words):
        raise ValueError("a list of inodes is numbers with commas between them")
    return frozenset(map(int, words))


def cpu_cap(text: str) -> frozenset[str]:
    """CRIU's comma-separated list with `^` for not, read from left to right; empty means all."""
    if not text:
        return frozenset(CPU_CAPS)
    chosen: set[str] = {"fpu", "ins"}
    for word in text.split(","):
        negated = word.startswith("^")
        name = word.removeprefix("^")
        if name == "none":
            chosen = set(CPU_CAPS) if negated else set()
            continue
        if name != "all" and name not in CPU_CAPS:
            raise ValueError(f"a capability is one of {', '.join(CPU_CAPS)}, all, none")
        named = set(CPU_CAPS) if name == "all" else {name}
        chosen = chosen - named if negated else chosen | named
    return frozenset(chosen)


def network_lock(text: str) -> str:
    if text == "iptables":
        raise ValueError("there are no rules for iptables, use nftables or skip")
    if text not in ("nftables", "skip"):
        raise ValueError("known are nftables and skip")
    return text
