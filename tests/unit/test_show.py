"""`ckpt show` and the summary behind it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ckpt.cli.__main__ import main
from ckpt.cli.show import human, plain_lines, printable
from ckpt.images import framing
from ckpt.images.reader import ImageSet
from ckpt.images.summary import summarise
from tests.support.image_set import PAGE, inventory, new, write_set

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_set(tmp_path)
    return tmp_path


def test_the_tree(images: Path) -> None:
    with ImageSet(images) as one:
        summary = summarise(one)
    assert [(t.pid, t.depth, t.state, t.comm) for t in summary.tasks] == [
        (10, 0, "running", "shell"),
        (20, 1, "stopped", "work er"),
        (30, 1, "zombie", "gone"),
    ]
    shell = summary.tasks[0]
    assert (shell.exe, shell.cwd, shell.threads) == ("/bin/shell", "/", [10, 11])
    assert (shell.memory.present, shell.memory.mappings) == (3 * PAGE, 5)
    assert [(d.fd, d.kind, d.text) for d in shell.descriptors] == [
        (0, "tty", "1"),
        (3, "pipe", "5 read"),
    ]
    assert summary.shared_memory == PAGE
    assert summary.files == len(list(images.iterdir()))


def test_text(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(images)]) == 0
    out = capsys.readouterr().out
    assert f"{images}: " in out
    assert "with checksums" in out
    for text in ("zombie", "  work er", "pipe      5 write", "5 mappings", "tty       1"):
        assert text in out
    assert "\x1b" not in out


def test_table(
    images: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ckpt.cli.show.sys.stdout.isatty", lambda: True)
    assert main(["show", str(images)]) == 0
    out = capsys.readouterr().out
    for text in ("COMMAND", "work er", "zombie", "in /"):
        assert text in out


def test_json(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(images), "--json"]) == 0
    shown: Any = json.loads(capsys.readouterr().out)
    assert [task["pid"] for task in shown["tasks"]] == [10, 20, 30]
    assert shown["tasks"][1]["memory"]["present"] == 3 * PAGE


def test_wrong_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show"]) == 2
    assert main(["show", str(tmp_path)]) == 5
    assert "holds no image set" in capsys.readouterr().err


@pytest.mark.parametrize("parents", [{10: 20, 20: 10}, {10: 10}])
def test_no_tree(tmp_path: Path, parents: dict[int, int]) -> None:
    entries = [
        new("pstree.pstree_entry", pid=pid, ppid=ppid, pgid=1, sid=1)
        for pid, ppid in parents.items()
    ]
    (tmp_path / "inventory.img").write_bytes(framing.encode("inventory", [inventory()]))
    (tmp_path / "pstree.img").write_bytes(framing.encode("pstree", entries))
    assert main(["show", str(tmp_path)]) == 5


def test_a_set_with_little_in_it(tmp_path: Path) -> None:
    (tmp_path / "inventory.img").write_bytes(framing.encode("inventory", [inventory()]))
    entry = new("pstree.pstree_entry", pid=1, ppid=0, pgid=1, sid=1)
    (tmp_path / "pstree.img").write_bytes(framing.encode("pstree", [entry]))
    (tmp_path / "parent").symlink_to("../before")
    with ImageSet(tmp_path) as one:
        lines = list(plain_lines(summarise(one)))
    assert "without checksums" in lines[0]
    assert lines[1] == "builds on ../before"
    assert lines[-1].endswith("?")


def test_what_a_terminal_must_not_see() -> None:
    assert printable("a\x1b[2Jb\n\udce9ä") == "a\\x1b[2Jb\\n\\udce9ä"


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 40, "5.0 TiB")]
)
def test_sizes(size: int, text: str) -> None:
    assert human(size) == text
