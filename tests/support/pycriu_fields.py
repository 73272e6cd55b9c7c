"""Prints CRIU's message descriptors as JSON. Run by the system's Python, which has Debian's pycriu:

{"message": {"field": [number, type, label, default]}, ...} and {"enum": {"VALUE": number}, ...}
"""

from __future__ import annotations

import importlib
import json
import pathlib
from typing import Any

import pycriu.images


def field_type(field: Any) -> Any:
    if field.message_type is not None:
        return field.message_type.name
    return field.enum_type.name if field.enum_type is not None else field.type


def default(field: Any) -> Any:
    return field.default_value if field.has_default_value else None


messages: dict[str, dict[str, list[Any]]] = {}
enums: dict[str, dict[str, int]] = {}


def walk(message: Any) -> None:
    messages[message.name] = {
        field.name: [field.number, field_type(field), field.label, default(field)]
        for field in message.fields
    }
    for enum in message.enum_types:
        enums[enum.name] = {value.name: value.number for value in enum.values}
    for nested in message.nested_types:
        walk(nested)


for path in pathlib.Path(pycriu.images.__file__).parent.glob("*_pb2.py"):
    file = importlib.import_module(f"pycriu.images.{path.stem}").DESCRIPTOR
    for found in file.message_types_by_name.values():
        walk(found)
    for found in file.enum_types_by_name.values():
        enums[found.name] = {value.name: value.number for value in found.values}

print(json.dumps({"messages": messages, "enums": enums}))
