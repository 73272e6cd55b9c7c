"""What an image says of one thread is not believed: the restore says why, and leaves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ckpt.images import framing
from tests.support import processes
from tests.support.programs import program

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.case import Case

IMAGE, KERNEL = 5, 7
Lie = tuple[str, int, int, str]
"""A field, what it is said to be, the exit code of the restore and what its error names."""

DISPATCH: tuple[Lie, ...] = (
    ("selector", 1 << 63, KERNEL, "handler"),
    ("mode", 7, KERNEL, "handler"),
)
DIRECTORIES: tuple[Lie, ...] = (("root_id", 99_999, IMAGE, "files.img"),)


def found(images: Path, field: str) -> tuple[Path, Any]:
    """The image of a thread that has this, and its message."""
    for path in sorted(images.glob("ckpt-thread-*.img")):
        (record,) = framing.decode(path.stem, path.read_bytes())
        message: Any = record.message
        if message.HasField(field):
            return path, message
    raise AssertionError(f"no thread has {field}")


@pytest.mark.parametrize(
    ("victim_of", "field", "lies"),
    [
        (("task/user_dispatch", "range"), "dispatch", DISPATCH),
        (("task/unshared_directories",), "directories", DIRECTORIES),
    ],
    ids=["dispatch", "directories"],
)
def test_lies(case: Case, victim_of: tuple[str, ...], field: str, lies: tuple[Lie, ...]) -> None:
    victim = case.start(program(*victim_of))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images, "--no-checksums").ok()
    victim.await_gone(pids)
    path, message = found(case.images, field)
    truth = path.read_bytes()
    for name, value, code, word in lies:
        lie = type(message).FromString(message.SerializeToString())
        setattr(getattr(lie, field), name, value)
        path.write_bytes(framing.encode(path.stem, [lie]))
        case.ckpt.restore(case.images).failed(code, word)
        assert processes.state(victim.pid) == "", "something was left"
    path.write_bytes(truth)
    case.ckpt.restore(case.images).ok()
    victim.finish()
