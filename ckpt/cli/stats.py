"""Results of an orchestrator as lines or as JSON. The names of the fields carry their units."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckpt.record import is_record, names

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNITS = {
    "_us": (" time", " us"),
    "_ms": (" time", " ms"),
    "_s": (" time", " s"),
    "_bytes": ("", " bytes"),
}


def as_dict(result: object) -> dict[str, Any]:
    """Plain numbers, texts, lists and dicts, as JSON knows them."""
    return {name: _plain(getattr(result, name)) for name in names(result)}


def as_json(result: object) -> str:
    import json

    return json.dumps(as_dict(result))


def as_lines(result: object) -> Iterator[str]:
    """`frozen_us=1500` as `Frozen time: 1500 us`; what is no number or text is left out."""
    for name, value in as_dict(result).items():
        if not isinstance(value, int | float | str) or isinstance(value, bool):
            continue
        suffix = next((s for s in _UNITS if name.endswith(s)), "")
        what, unit = _UNITS.get(suffix, ("", ""))
        title = name.removesuffix(suffix).replace("_", " ").capitalize()
        shown = f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
        yield f"{title}{what}: {shown}{unit}"


def _plain(value: Any) -> Any:
    if is_record(value):
        return as_dict(value)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value if isinstance(value, int | float | str | None) else str(value)
