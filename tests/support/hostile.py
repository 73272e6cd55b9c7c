"""Making an image set lie: bytes of a file, or fields of its messages, are changed.

What comes out parses more often than not, so that what looks at the meaning is reached; sums are
to be removed by the caller for the same reason.
"""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

from ckpt.errors import ImageError
from ckpt.images import framing
from ckpt.images.types import Framing, parse_file_name

NUMBERS = (0, 1, 2, 7, 4095, 4096, 1 << 20, 1 << 22, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
WIDE = (1 << 40, (1 << 47) - 4096, 1 << 47, (1 << 63) - 1, 1 << 63, (1 << 64) - 4096, (1 << 64) - 1)
TEXTS = ("", "/", "/nonexistent/here", "..", "a/b", "x" * 5000)
_RANGES = {5: (31, True), 15: (31, True), 17: (31, True), 13: (32, False), 7: (32, False)}
_RANGES |= {3: (63, True), 16: (63, True), 18: (63, True), 4: (64, False), 6: (64, False)}


def blow(chance: random.Random, files: dict[str, bytes]) -> tuple[str, str]:
    """Change one file of `files` (by name) in place; which one, and how."""
    name = chance.choice(sorted(files))
    image = parse_file_name(name)
    how = chance.choice(("bytes", "field", "field", "field", "field", "field", "record", "gone"))
    if how == "gone":
        del files[name]
        return name, how
    if how != "bytes" and image is not None and image.type.framing is not Framing.RAW:
        try:
            records = framing.decode(name.removesuffix(".img"), files[name])
        except ImageError:
            records = []
        if records:
            told = _change(chance, records, how)
            files[name] = _encoded(framing.head(image.type), records)
            return name, told
    files[name], told = _bytes(chance, files[name])
    return name, told


def _bytes(chance: random.Random, data: bytes) -> tuple[bytes, str]:
    at = chance.randrange(len(data) + 1)
    if chance.random() < 0.3:
        return data[:at], f"cut at {at}"
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        if changed:
            changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed), "bits flipped"


def _change(chance: random.Random, records: list[Any], how: str) -> str:
    index = chance.randrange(len(records))
    if how == "record":
        if chance.random() < 0.5:
            del records[index]
            return f"record {index} gone"
        records.insert(chance.randrange(len(records) + 1), records[index])
        return f"record {index} twice"
    return f"record {index}: " + _field(chance, records[index].message)


def _field(chance: random.Random, message: Any) -> str:
    """Change a field somewhere inside; messages within messages are gone into."""
    fields = message.ListFields()
    if not fields:
        return "nothing"
    field, value = chance.choice(fields)
    if field.is_repeated:
        return f"{field.name}: " + _repeated(chance, field, value)
    if field.message_type is not None:
        if chance.random() < 0.1:
            message.ClearField(field.name)
            return f"{field.name} cleared"
        return f"{field.name}." + _field(chance, value)
    if chance.random() < 0.1:
        message.ClearField(field.name)
        return f"{field.name} cleared"
    new = _value(chance, field, value)
    setattr(message, field.name, new)
    return f"{field.name} = {str(new)[:40]}"


def _repeated(chance: random.Random, field: Any, values: Any) -> str:
    index = chance.randrange(len(values))
    choice = chance.choice(("change", "change", "change", "gone", "twice", "many"))
    if choice == "gone":
        del values[index]
    elif choice == "twice":
        values.extend([values[index]])
    elif choice == "many":
        values.extend([values[index]] * 3000)
    elif field.message_type is not None:
        return f"[{index}]." + _field(chance, values[index])
    else:
        values[index] = _value(chance, field, values[index])
    return f"[{index}] {choice}"


def _value(chance: random.Random, field: Any, value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return chance.choice((*TEXTS, value + "x"))
    if isinstance(value, bytes):
        return _bytes(chance, value)[0]
    if field.enum_type is not None:
        return chance.choice([v.number for v in field.enum_type.values])
    bits, signed = _RANGES[field.type]
    near = (value + 1, value - 1, value ^ 1, value + 4096, value - 4096, value * 2, -value)
    new = chance.choice((*NUMBERS, *WIDE, *near, *near))
    low = -(1 << bits) if signed else 0
    return min(max(new, low), (1 << bits) - 1)


def _encoded(head: bytes, records: list[Any]) -> bytes:
    parts = [head]
    for record in records:
        raw = record.message.SerializePartialToString()
        parts += (struct.pack("<I", len(raw)), raw, bytes(record.payload))
    return b"".join(parts)


def laid_out(files: dict[str, bytes], pages: dict[str, Path], to: Path) -> None:
    """Write the files to the new folder `to`; pages are links to those of the original."""
    to.mkdir()
    for name, data in files.items():
        (to / name).write_bytes(data)
    for name, path in pages.items():
        (to / name).hardlink_to(path)
