"""Outlines of trees: of a running one, and hostile ones."""

from __future__ import annotations

import json
import subprocess
from copy import deepcopy
from typing import Any

import pytest

from ckpt.errors import PeerError
from ckpt.mem.vma import Backing
from ckpt.migrate.outline import from_frame, of_running
from ckpt.migrate.wire import Frame
from ckpt.procfs.maps import parse_maps
from ckpt.procfs.reader import ProcDir

ROOT = [
    *(100, 0, 100, 100, 0, 17, [101], [1, 1, 1, 1]),
    [[0x10000, 0x20000, 3, 0x22, 0x201], [0x30000, 0x31000, 1, 0x22, 0x201]],
]
CHILD = [102, 100, 100, 100, 0, 17, [], [2, 2, 2, 2], []]
DEAD = [103, 100, 100, 100, 1, 17, [], [], []]


def parsed(rows: Any) -> Any:
    return from_frame(Frame("fill", {"outline": rows}))


def test_of_a_running_tree() -> None:
    # Of a session of its own, so without a terminal, whoever runs the tests.
    pipe = subprocess.PIPE
    with subprocess.Popen(["cat"], stdin=pipe, stdout=pipe, start_new_session=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(b"loaded\n")
        process.stdin.flush()
        assert process.stdout.readline() == b"loaded\n"
        rows = of_running(process.pid)
        with ProcDir(process.pid) as proc:
            maps = parse_maps(proc.read("maps"))
        process.stdin.close()
    found = parsed(json.loads(json.dumps(rows)))
    assert [task.pid for task in found.tree] == [process.pid]
    there = found.vmas[process.pid]
    assert [v.range for v in there] == [m.range for m in maps if m.path != "[vsyscall]"]
    assert {v.backing for v in there} >= {Backing.NONE, Backing.FILE, Backing.KERNEL}


def test_of_none() -> None:
    with subprocess.Popen(["true"]) as process:
        pass
    assert of_running(process.pid) is None


def test_of_what_can_be() -> None:
    found = parsed([ROOT, CHILD, DEAD])
    assert [task.pid for task in found.tree] == [100, 102, 103]
    assert found.tree[100].threads == (101,)
    assert set(found.vmas) == {100, 102}


def wrong(at: int, value: Any) -> list[Any]:
    row = deepcopy(ROOT)
    row[at] = value
    return [row]


HOSTILE: dict[str, Any] = {
    "nothing": None,
    "a text": "outline",
    "no tasks": [],
    "no task": [7],
    "a field too few": [ROOT[:-1]],
    "a number as text": wrong(0, "100"),
    "a flag as number": wrong(0, True),
    "number 0": wrong(0, 0),
    "negative": wrong(2, -1),
    "a number too large": wrong(3, 1 << 22),
    "a thread too large": wrong(6, [1 << 30]),
    "a thread as text": wrong(6, ["101"]),
    "signal 99": wrong(5, 99),
    "dead root": wrong(4, 1),
    "no parent": wrong(1, 99),
    "two roots": [ROOT, [*CHILD[:1], 0, *CHILD[2:]]],
    "twice": [ROOT, CHILD, CHILD],
    "a circle": [ROOT, [102, 103, *CHILD[2:]], [103, 102, *CHILD[2:]]],
    "ids too few": wrong(7, [1]),
    "signal actions without memory": [ROOT, [*CHILD[:7], [2, 2, 2, 1], []]],
    "a mapping as number": wrong(8, [7]),
    "half a mapping": wrong(8, [[0x10000, 0x20000]]),
    "no range": wrong(8, [[0x20000, 0x10000, 3, 0x22, 0x201]]),
    "no page": wrong(8, [[0x10001, 0x20000, 3, 0x22, 0x201]]),
    "outside": wrong(8, [[1 << 62, (1 << 62) + 4096, 3, 0x22, 0x201]]),
    "beyond": wrong(8, [[1 << 63, (1 << 63) + 4096, 3, 0x22, 0x201]]),
    "no kind": wrong(8, [[0x10000, 0x20000, 3, 0x22, 0]]),
    "flags too large": wrong(8, [[0x10000, 0x20000, 3, 1 << 40, 0x201]]),
    "overlapping": wrong(8, [[0x10000, 0x20000, 3, 34, 513], [0x1F000, 0x21000, 3, 34, 513]]),
}


@pytest.mark.parametrize("rows", HOSTILE.values(), ids=HOSTILE)
def test_what_is_none(rows: Any) -> None:
    with pytest.raises(PeerError):
        parsed(rows)
