"""/proc/PID/timens_offsets: what a time namespace adds to the monotonic and the boot clock.

Source: time_namespaces(7), proc_timens_show_offsets() in kernel/time/namespace.c.

The file of a process speaks of the namespace of its *children*. It can be written only while that
namespace has no process in it yet.
"""

from __future__ import annotations

from ckpt.procfs.parse import dec, fail, lines, signed
from ckpt.record import record

FILE = "timens_offsets"
NS_PER_S = 1_000_000_000
_NAMES = {b"monotonic": "monotonic", b"1": "monotonic", b"boottime": "boottime", b"7": "boottime"}


@record(frozen=True)
class TimensOffsets:
    """Nanoseconds, also negative, that are added to the machine's clock."""

    monotonic_ns: int = 0
    boottime_ns: int = 0


def parse_timens_offsets(data: bytes) -> TimensOffsets:
    """Both clocks; a name that is missing has offset 0."""
    found = {"monotonic": 0, "boottime": 0}
    for line in lines(data, FILE):
        fields = line.split()
        if len(fields) != 3 or fields[0] not in _NAMES:
            fail(FILE, line, "not a clock with seconds and nanoseconds")
        nanoseconds = dec(fields[2], FILE, line)
        if nanoseconds >= NS_PER_S:
            fail(FILE, line, "a second or more of nanoseconds")
        found[_NAMES[fields[0]]] = signed(fields[1], FILE, line) * NS_PER_S + nanoseconds
    return TimensOffsets(found["monotonic"], found["boottime"])


def render_timens_offsets(offsets: TimensOffsets) -> bytes:
    """The text to write into timens_offsets: nanoseconds are never negative there."""
    rows = (("monotonic", offsets.monotonic_ns), ("boottime", offsets.boottime_ns))
    return "".join(f"{n} {ns // NS_PER_S} {ns % NS_PER_S}\n" for n, ns in rows).encode()
