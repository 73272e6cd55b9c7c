"""Classes of named fields: `dataclass(slots=True)` for a program whose start is part of every dump.

The standard decorator compiles up to six functions for each class and imports inspect, which
together were 40 of the 110 ms that a dump took to begin. Here only `__init__` is compiled; what
compares, hashes and shows is shared by all classes and asks the fields of each.

A type checker sees the standard decorator, so `record`, `field` and `replace` take nothing that it
does not; of its arguments only those stand here that are used. A record has no `__dict__` unless
`slots=False` says so, and as with dataclass(slots=True) its methods can't call super() without
arguments. What is only a tuple with names is a NamedTuple, whose class costs the same.

Source: Lib/dataclasses.py of Python; PEP 681.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass as record
    from dataclasses import field as field
    from dataclasses import replace as replace

__all__ = ["field", "is_record", "names", "record", "replace"]

_T = TypeVar("_T")
_FIELDS, _VALUES = "__record_fields__", "__record_values__"


class _Missing:
    """What a field without a default has instead, and an argument that was not given."""


class _Field(NamedTuple):
    """How one field gets its value."""

    default: Any = _Missing
    default_factory: Any = _Missing
    init: bool = True


def names(value: object) -> tuple[str, ...]:
    """The fields of a record, or of a class of them, in order."""
    return tuple(getattr(value, _FIELDS))


def is_record(value: object) -> bool:
    """Whether it is one, and no class."""
    return hasattr(value, _FIELDS) and not isinstance(value, type)


def _record(cls: type[_T] | None = None, /, **options: bool) -> Any:
    return _made(cls, **options) if cls is not None else lambda cls: _made(cls, **options)


def _replace(old: _T, /, **changes: Any) -> _T:
    """A new record, with these values instead of those of `old`."""
    fields: dict[str, _Field] = getattr(old, _FIELDS)
    kept = {n: getattr(old, n) for n, one in fields.items() if one.init and n not in changes}
    return type(old)(**kept, **changes)


def _made(
    cls: type[_T],
    *,
    frozen: bool = False,
    eq: bool = True,
    kw_only: bool = False,
    slots: bool = True,
) -> type[_T]:
    """`cls` with the methods that it lacks; another class with `slots`, as they can't be added."""
    own = {
        name: _described(vars(cls).get(name, _Missing))
        for name, annotation in vars(cls).get("__annotations__", {}).items()
        if not annotation.startswith("ClassVar")
    }
    fields: dict[str, _Field] = getattr(cls, _FIELDS, {}) | own
    new: dict[str, Any] = {_FIELDS: fields, _VALUES: attrgetter(*fields), "__repr__": _repr}
    new["__init__"] = _init(cls, fields, frozen=frozen, kw_only=kw_only)
    if not kw_only:
        new["__match_args__"] = tuple(name for name, one in fields.items() if one.init)
    if eq:
        new |= {"__eq__": _eq, "__hash__": _hash if frozen else None}
    if frozen:
        new |= {"__setattr__": _refused, "__delattr__": _refused}
    return _with_slots(cls, own, new) if slots else _with_defaults(cls, own, new)


def _described(default: Any) -> _Field:
    return default if isinstance(default, _Field) else _Field(default)


def _with_slots(cls: type[_T], own: dict[str, _Field], new: dict[str, Any]) -> type[_T]:
    """`cls` anew. What a class defines itself stays."""
    replaced = {"__dict__", "__weakref__", "__slots__", *own}
    kept = {name: value for name, value in vars(cls).items() if name not in replaced}
    if "__eq__" in kept and "__hash__" in kept and kept["__hash__"] is None:
        del kept["__hash__"]  # set by the interpreter, since it has an __eq__
    namespace = {"__slots__": tuple(own), **new, **kept}
    metaclass: Any = type(cls)
    made: type[_T] = metaclass(cls.__name__, cls.__bases__, namespace)
    made.__qualname__ = cls.__qualname__
    return made


def _with_defaults(cls: type[_T], own: dict[str, _Field], new: dict[str, Any]) -> type[_T]:
    for name, value in new.items():
        if name not in vars(cls):
            setattr(cls, name, value)
    for name, one in own.items():
        if name in vars(cls) and one.default is _Missing:
            delattr(cls, name)
    return cls


def _init(
    cls: type, fields: dict[str, _Field], *, frozen: bool, kw_only: bool
) -> Callable[..., None]:
    """The only function that is compiled for a class."""
    known: dict[str, Any] = {"_missing": _Missing, "_set": object.__setattr__}
    arguments, lines = ["self", *(["*"] if kw_only else [])], []
    for name, one in fields.items():
        value = name
        if one.default_factory is not _Missing:
            known[f"_new_{name}"] = one.default_factory
            value = f"_new_{name}()"
            if one.init:
                arguments.append(f"{name}=_missing")
                value += f" if {name} is _missing else {name}"
        elif one.default is not _Missing:
            known[f"_default_{name}"] = one.default
            arguments.append(f"{name}=_default_{name}")
        elif one.init:
            arguments.append(name)
        else:
            continue
        lines.append(f" _set(self, {name!r}, {value})" if frozen else f" self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    text = f"def __init__({', '.join(arguments)}):\n" + "\n".join(lines or [" pass"])
    exec(compile(text, f"<record {cls.__qualname__}>", "exec"), known)
    made: Callable[..., None] = known["__init__"]
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    return made


def _repr(self: Any) -> str:
    shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in names(self))
    return f"{type(self).__qualname__}({shown})"


def _eq(self: Any, other: Any) -> Any:
    values = self.__record_values__
    return values(self) == values(other) if type(other) is type(self) else NotImplemented


def _hash(self: Any) -> int:
    return hash(self.__record_values__(self))


def _refused(self: Any, name: str, *_: object) -> NoReturn:
    raise AttributeError(f"{name!r} of a {type(self).__qualname__} can't be changed")


if not TYPE_CHECKING:
    record, field, replace = _record, _Field, _replace
