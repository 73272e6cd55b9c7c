"""`ckpt show` and the summary behind it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from ckpt.cli.__main__ import main
from ckpt.cli.output import human, printable
from ckpt.cli.show import plain_lines
from ckpt.images import framing
from ckpt.images.dedup import dedup
from ckpt.images.pagemap import PE_PARENT, PE_PRESENT
from ckpt.images.reader import ImageSet
from ckpt.images.summary import summarise
from tests.support.chain_sets import make_many, pages
from tests.support.image_set import PAGE, inventory, new, write_set

if TYPE_CHECKING:
    from pathlib import Path

P, N = PE_PARENT, PE_PRESENT


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


def three_layers(folder: Path) -> Path:
    """Tasks 7 and 8; the last set has pages of its own, from its parent and from that one's."""
    make_many(
        folder / "a",
        {"pagemap-7": [pages(0, 100, N)], "pagemap-8": [pages(0, 10, N)]},
        run_id="A",
        dump_uptime=3_600_000_000,
    )
    make_many(
        folder / "b",
        {"pagemap-7": [pages(0, 50, P), pages(50, 20, N)]},
        "../a",
        run_id="B",
        parent_id="A",
        dump_uptime=3_661_500_000,
    )
    make_many(
        folder / "c",
        {"pagemap-7": [pages(0, 1, N), pages(1, 59, P)]},
        "../b",
        run_id="C",
        parent_id="B",
    )
    return folder / "c"


def test_a_chain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = three_layers(tmp_path)
    assert main(["show", str(newest), "--json"]) == 0
    shown: Any = json.loads(capsys.readouterr().out)
    assert shown["broken"] == ""
    named = ("run_id", "dump_uptime_us", "tasks", "present", "in_parent", "freed", "used")
    assert [tuple(layer[name] for name in named) for layer in shown["layers"]] == [
        ("C", 0, 1, PAGE, 59 * PAGE, 0, PAGE),
        ("B", 3_661_500_000, 1, 20 * PAGE, 50 * PAGE, 0, 10 * PAGE),
        ("A", 3_600_000_000, 2, 110 * PAGE, 0, 0, 49 * PAGE),
    ]
    for layer, name in zip(shown["layers"], "cba", strict=True):
        files = [path for path in (tmp_path / name).iterdir() if not path.is_symlink()]
        assert layer["on_disk"] == sum(path.stat().st_blocks * 512 for path in files)
    assert main(["show", str(newest)]) == 0
    out = capsys.readouterr().out
    assert "chain of 3 sets" in out
    row = next(line for line in out.splitlines() if " B in " in line)
    assert " ".join(row.split()).startswith("1 1:01:01.500 1 80.0 KiB 200.0 KiB 40.0 KiB 0 B ")


def test_a_chain_that_lost_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = three_layers(tmp_path)
    dedup(newest)
    assert main(["show", str(newest), "--json"]) == 0
    shown: Any = json.loads(capsys.readouterr().out)
    assert [layer["freed"] for layer in shown["layers"]] == [0, 0, 21 * PAGE]
    assert shown["broken"] == ""
    assert main(["show", str(tmp_path / "b")]) == 0
    out = capsys.readouterr().out
    assert "can't be restored" in out
    assert "has lost 1 pages that are needed" in out
    assert "chain of 2 sets" in out


def test_a_chain_that_ends_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    newest = three_layers(tmp_path)
    (tmp_path / "b").rename(tmp_path / "moved")
    assert main(["show", str(newest)]) == 0
    out = capsys.readouterr().out
    assert "builds on ../b" in out
    assert "can't be restored" in out
    assert "leads nowhere" in out


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
