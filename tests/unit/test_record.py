"""Records do what the standard decorator's classes do with the same declarations."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass
from dataclasses import field as standard_field
from dataclasses import replace as standard_replace
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from ckpt.record import field, is_record, names, record, replace

OURS = SimpleNamespace(record=record, field=field, replace=replace)
STANDARD = SimpleNamespace(
    record=lambda cls=None, /, **options: dataclass(cls, **{"slots": True, **options}),
    field=standard_field,
    replace=standard_replace,
)


@pytest.fixture(params=[OURS, STANDARD], ids=["record", "dataclass"])
def lib(request: pytest.FixtureRequest) -> Any:
    return request.param


def point(lib: Any, **options: bool) -> Any:
    @lib.record(**options)
    class Point:
        """A place."""

        nr_made: ClassVar[int] = 0

        x: int
        y: int = 2
        tags: list[str] = lib.field(default_factory=list)

        def length(self) -> int:
            return self.x + self.y

    return Point


def test_fields_are_given_by_place_by_name_or_by_default(lib: Any) -> None:
    made = point(lib)(1, tags=["a"])
    assert (made.x, made.y, made.tags, made.length()) == (1, 2, ["a"], 3)
    assert point(lib).__match_args__ == ("x", "y", "tags")
    for wrong in ({}, {"x": 1, "z": 2}):
        with pytest.raises(TypeError, match="__init__"):
            point(lib)(**wrong)


def test_what_a_factory_makes_is_made_for_each(lib: Any) -> None:
    cls = point(lib)
    assert cls(1).tags is not cls(1).tags


def test_equal_fields_make_equal_records(lib: Any) -> None:
    cls = point(lib)
    assert cls(1) == cls(1, 2, [])
    assert cls(1) != cls(2)
    assert cls(1) != (1, 2, [])
    with pytest.raises(TypeError, match="unhashable"):
        hash(cls(1))


def test_frozen_ones_hash_and_do_not_change(lib: Any) -> None:
    @lib.record(frozen=True)
    class Name:
        first: str
        last: str = ""

    cls: Any = Name
    assert len({cls("a", "b"), cls("a", "b"), cls("a")}) == 2
    one = cls("a")
    with pytest.raises(AttributeError, match="first"):
        one.first = "b"
    with pytest.raises(AttributeError, match="last"):
        del one.last
    assert lib.replace(one, last="c") == cls("a", "c")
    assert issubclass(FrozenInstanceError, AttributeError)


def test_they_show_their_fields(lib: Any) -> None:
    shown = repr(point(lib)(1))
    assert shown.endswith("Point(x=1, y=2, tags=[])")


def test_without_equality_each_is_its_own(lib: Any) -> None:
    cls = point(lib, eq=False)
    one = cls(1)
    assert one != cls(1)
    assert {one: 1}[one] == 1


def test_slots_leave_no_room_for_more(lib: Any) -> None:
    one = point(lib)(1)
    assert not hasattr(one, "__dict__")
    with pytest.raises(AttributeError):
        one.z = 1


def test_with_a_dict_there_is_room(lib: Any) -> None:
    one = point(lib, slots=False)(1)
    one.z = 1
    assert (one.tags, one.__dict__["z"]) == ([], 1)
    assert "tags" not in vars(type(one))


def test_what_a_class_has_itself_stays(lib: Any) -> None:
    @lib.record(frozen=True)
    class Folded:
        text: str

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Folded) and other.text.lower() == self.text.lower()

        def __repr__(self) -> str:
            return self.text

    cls: Any = Folded
    assert cls("A") == cls("a")
    assert repr(cls("A")) == "A"
    assert hash(cls("A")) == hash(cls("A"))


def test_a_last_step_completes(lib: Any) -> None:
    @lib.record
    class Sum:
        parts: tuple[int, ...]
        total: int = lib.field(init=False)

        def __post_init__(self) -> None:
            self.total = sum(self.parts)

    cls: Any = Sum
    assert cls((1, 2)).total == 3
    assert lib.replace(cls((1, 2)), parts=(4,)).total == 4


def test_heirs_have_the_fields_of_both(lib: Any) -> None:
    @lib.record(frozen=True, kw_only=True)
    class Base:
        port: int
        name: str = "base"

    @lib.record(frozen=True, kw_only=True)
    class Heir(Base):
        folder: str
        name: str = "heir"

    cls: Any = Heir
    made = cls(folder="f", port=1)
    assert (made.port, made.name, made.folder) == (1, "heir", "f")
    assert isinstance(made, Base)
    with pytest.raises(TypeError):
        cls(1, "n", "f")


def test_records_tell_their_fields() -> None:
    cls = point(OURS)
    assert names(cls) == names(cls(1)) == ("x", "y", "tags")
    assert is_record(cls(1))
    assert not is_record(cls)
    assert not is_record((1, 2))
