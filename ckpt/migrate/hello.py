"""The first frame of each connection: who comes, and what the destination must know beforehand.

What can be known to stand in the way of the restore is found here, before a page has moved and long
before the tree is frozen: other CPUs, a vdso that nothing here stands in for, numbers taken here.
"""

from __future__ import annotations

import os
import re
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

from ckpt.errors import CkptError, PeerError, RestoreError
from ckpt.images.pb.cpuinfo_pb2 import cpuinfo_entry
from ckpt.kerndat import cpu
from ckpt.mem.vdso import LONGEST, Vdso, this_kernel
from ckpt.migrate import wire
from ckpt.restore.numbers import await_reaping, taken_numbers
from ckpt.restore.vdso import entries_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ckpt.dump.options import DumpOptions
    from ckpt.images.pageserver.stream import Stream

MIGRATE, DATA, OUTCOME, REST = "migrate", "data", "outcome", "rest"
PASSED_ON = ("file_locks", "tcp_established", "tcp_close", "file_validation", "network_lock")
"""Options of the dump that the restore must be given, too."""

_WORDS: dict[str, list[Any]] = {
    "file_validation": ["filesize", "buildid"],
    "network_lock": ["nftables", "skip"],
}
_ID = re.compile(r"[0-9a-f]{32}")
_MAX_CPU = 1 << 16


def say_hello(stream: Stream, ident: str, numbers: Iterable[int], dump: DumpOptions) -> None:
    """Of the source, on the control connection; returns when the destination would have the tree.

    Raises PeerError with what it says else.
    """
    passed_on: dict[str, Any] = {name: getattr(dump, name) for name in PASSED_ON}
    wire.send(
        stream,
        MIGRATE,
        cpu.to_message(cpu.this_cpu()).SerializeToString() if dump.cpu_cap else b"",
        version=wire.VERSION,
        id=ident,
        numbers=sorted(set(numbers)),
        vdso=_own_vdso(),
        options=passed_on,
    )
    wire.expect(stream, "welcome")


def ident_of(frame: wire.Frame) -> str:
    """Raises PeerError unless it is one, which may be the name of a file."""
    ident = frame.text("id")
    if not _ID.fullmatch(ident):
        raise PeerError("sent an identity that is none")
    return ident


def check_hello(frame: wire.Frame, cpu_cap: frozenset[str]) -> None:
    """Of the destination. Raises RestoreError or PeerError for what is in the way."""
    if frame.number("version") != wire.VERSION:
        raise PeerError(
            "speaks another version of the protocol",
            why=f"{frame.number('version')}, here it is {wire.VERSION}",
            hint="the same ckpt on both sides",
        )
    _check_cpu(frame.data, cpu_cap)
    _check_vdso(frame.text("vdso"))


def check_numbers(wanted: Collection[int]) -> None:
    """Raises RestoreError for one that is taken here."""
    numbers = set(wanted)
    await_reaping(numbers)
    for number, why in taken_numbers(numbers):
        raise RestoreError(
            f"the number {number} is taken",
            why="ckpt serve itself has it" if number == os.getppid() else why,
            hint="end that process, or run ckpt serve in another pid namespace",
        )


def passed_options(frame: wire.Frame) -> dict[str, Any]:
    """Fields of RestoreOptions. Raises PeerError for what is none."""
    given = frame.fields.get("options")
    found: dict[str, Any] = {}
    for name in PASSED_ON:
        value = given.get(name) if isinstance(given, dict) else None
        words = _WORDS.get(name)
        if not (isinstance(value, bool) if words is None else value in words):
            raise PeerError("sent options that make no sense", why=name)
        found[name] = value
    return found


def _own_vdso() -> str:
    """This kernel's, for a frame; empty where it has none."""
    vdso = this_kernel().vdso
    return "" if vdso is None else b64encode(vdso.raw[: vdso.used]).decode()


def _check_vdso(told: str) -> None:
    """That of the source must be this kernel's, or one that this kernel's can stand in for."""
    try:
        raw = b64decode(told, validate=True)
        if len(raw) > LONGEST:
            raise ValueError
    except ValueError as error:
        raise PeerError("sent a vdso that is none") from error
    here = this_kernel().vdso
    there = Vdso(raw)
    if raw and not (here and there.same(here)):
        entries_of(there, here)
    elif not raw and here:
        raise RestoreError("its kernel has no vdso", hint="boot this one with vdso=0")


def _check_cpu(raw: bytes, caps: frozenset[str]) -> None:
    if not caps or not raw:
        return
    message = cpuinfo_entry()
    try:
        if len(raw) > _MAX_CPU:
            raise ValueError
        message.ParseFromString(raw)
        there = cpu.from_message(message)
    except (CkptError, ValueError, TypeError) as error:
        raise PeerError("sent a CPU that makes no sense") from error
    except Exception as error:  # protobuf's DecodeError has no common base with others
        raise PeerError("sent a CPU that can't be read") from error
    if found := cpu.mismatches(there, cpu.this_cpu(), caps):
        raise RestoreError(
            "this CPU is not that of the source",
            why="; ".join(found),
            hint="move to a richer one, or at your own risk with --cpu-cap=none",
        )
