"""Text fields that hold what the kernel gave: names are bytes, and not always UTF-8.

The format calls them `string`; on the wire that is the same as `bytes`, and CRIU writes what there
is. protobuf refuses to set such a field to other than UTF-8, and gives `bytes` instead of `str`
when it reads one. So names of files and tasks go through `set_text` and `get_text`, in Python's
form for them: str with surrogate escapes (os.fsencode). In every other text field, bytes that are
no UTF-8 are damage (ckpt.images.framing).
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.message import Message

NAMES = frozenset(
    {
        "task_core_entry.comm",
        "thread_core_entry.comm",
        "reg_file_entry.name",
        "memfd_inode_entry.name",
        "ghost_file_entry.symlnk_target",
        "cg_member_entry.path",
        "cgroup_dir_entry.dir_name",
        "unix_sk_entry.name_dir",
        "mnt_entry.root",
        "mnt_entry.mountpoint",
        "mnt_entry.source",
        "mnt_entry.options",
        "fh_entry.path",
        "fanotify_mount_mark_entry.path",
        "ckpt_fanotify_entry.path",
    }
)
"""Fields that may hold anything but a zero byte: read them by get_text, write them by set_text."""


def set_text(message: Message, field: str, text: str) -> None:
    """Set a text field to `text`, which may have surrogate escapes."""
    raw = os.fsencode(text)
    number = message.DESCRIPTOR.fields_by_name[field].number
    # The last value of a field wins, so merging one in sets it.
    message.MergeFromString(_varint(number << 3 | 2) + _varint(len(raw)) + raw)


def get_text(message: Message, field: str) -> str:
    """A text field, with surrogate escapes for what is not UTF-8; empty if it is not set."""
    value: str | bytes = getattr(message, field)
    return os.fsdecode(value) if isinstance(value, bytes) else value


def has_text(message_type: type[Message]) -> bool:
    """Whether bad_text may ever find something in such a message."""
    return bool(_plan(message_type.DESCRIPTOR))


def bad_text(message: Message) -> str:
    """The first text field, NAMES left out, that is not UTF-8; empty if there is none."""
    for field, is_text, repeated in _plan(message.DESCRIPTOR):
        if not is_text and not repeated and not message.HasField(field):
            continue
        value = getattr(message, field)
        for one in value if repeated else (value,):
            if is_text and isinstance(one, bytes):
                return f"{message.DESCRIPTOR.name}.{field}"
            if not is_text and (found := bad_text(one)):
                return found
    return ""


@cache
def _plan(descriptor: Descriptor) -> tuple[tuple[str, bool, bool], ...]:
    """Fields to look at: name, whether it is text (else a message with text), whether repeated."""
    return tuple(
        (field.name, field.message_type is None, field.is_repeated)
        for field in descriptor.fields
        if (field.type == field.TYPE_STRING and f"{descriptor.name}.{field.name}" not in NAMES)
        or (field.message_type is not None and _has_text(field.message_type, frozenset()))
    )


def _has_text(descriptor: Descriptor, seen: frozenset[str]) -> bool:
    if descriptor.name in seen:
        return False
    seen |= {descriptor.name}
    return any(
        field.type == field.TYPE_STRING
        or (field.message_type is not None and _has_text(field.message_type, seen))
        for field in descriptor.fields
    )


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
