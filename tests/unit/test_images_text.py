"""Names that are not UTF-8 go through an image unchanged."""

from __future__ import annotations

from typing import Any

import pytest

from ckpt.images import framing
from ckpt.images.text import NAMES, get_text, set_text
from tests.support.image_set import new, owner

LATIN = "/tmp/caf\udce9"


@pytest.mark.parametrize("text", ["", "plain", "käse", LATIN, "x" * 300, "\udcff\udcfe"])
def test_any_name_round_trips(text: str) -> None:
    reg = new("regfile.reg_file_entry", id=1, flags=0, pos=0, fown=owner(), name="before")
    set_text(reg, "name", text)
    assert get_text(reg, "name") == text
    file = new("fdinfo.file_entry", type=1, id=1, reg=reg)
    (record,) = framing.decode("files", framing.encode("files", [file]))
    decoded: Any = record.message
    assert get_text(decoded.reg, "name") == text


def test_names_are_fields() -> None:
    from ckpt.images.types import TYPES

    known: set[str] = set()

    def walk(descriptor: Any) -> None:
        if descriptor.name not in known:
            known.add(descriptor.name)
            for field in descriptor.fields:
                if field.type == field.TYPE_STRING:
                    known.add(f"{descriptor.name}.{field.name}")
                elif field.message_type is not None:
                    walk(field.message_type)

    for image_type in TYPES.values():
        if image_type.entry:
            walk(image_type.message(0).DESCRIPTOR)
            walk(image_type.message(1).DESCRIPTOR)
    assert known >= NAMES
