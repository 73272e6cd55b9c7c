"""Starting is part of every dump: what may be imported before a verb runs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from ckpt.cli.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
SLOW = ("rich", "asyncio", "pyroute2", "google", "ptrace", "argparse", "importlib.metadata", "json")

PROBE = """
import sys
from ckpt.cli.__main__ import main
code = main(sys.argv[1:])
print("\\n", *sorted(sys.modules), sep="\\n", file=sys.stderr)
sys.exit(code)
"""


def modules_after(*words: str) -> set[str]:
    run = subprocess.run(
        [sys.executable, "-I", "-c", PROBE, *words], capture_output=True, text=True, timeout=60
    )
    assert run.returncode in (0, 2), run.stderr
    return set(run.stderr.split())


@pytest.mark.parametrize(
    "words", [["--version"], ["--help"], ["dump", "--help"], ["dump"]], ids=" ".join
)
def test_nothing_slow_is_imported(words: list[str]) -> None:
    modules = modules_after(*words)
    assert modules & set(SLOW) == set()
    assert "ckpt._native._ckpt" not in modules


def test_the_version_costs_nothing() -> None:
    ours = {name for name in modules_after("--version") if name.startswith("ckpt")}
    assert ours == {"ckpt", "ckpt.cli", "ckpt.cli.__main__", "ckpt.cli.version"}
    assert "dataclasses" not in modules_after("--version")


def test_a_verb_does_not_import_the_others() -> None:
    modules = modules_after("dump")
    assert "ckpt.cli.dump" in modules
    assert not modules & {"ckpt.cli.restore", "ckpt.cli.check", "ckpt.cli.show"}


@pytest.mark.parametrize("module", ["ckpt.dump.run", "ckpt.restore.run"])
def test_orchestrators_import_nothing_slow(module: str) -> None:
    """Of protobuf what its implementation in C needs; no class is made from compiled source."""
    show = f"import sys, {module}; print(*sys.modules)"
    run = subprocess.run(
        [sys.executable, "-I", "-c", show], capture_output=True, text=True, check=True
    )
    slow = {*SLOW, "dataclasses", "inspect", "google.protobuf.text_format"} - {"google", "json"}
    assert not slow & set(run.stdout.split())


def test_what_is_put_off_of_protobuf_is_there_when_it_is_asked() -> None:
    show = """
from ckpt.images.pb.fs_pb2 import fs_entry
from google.protobuf import text_format
print(text_format.MessageToString(fs_entry(cwd_id=1, root_id=2), as_one_line=True))
"""
    run = subprocess.run(
        [sys.executable, "-I", "-c", show], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "cwd_id: 1 root_id: 2"


def test_the_version_is_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_version_is_printed_as_crius(word: str) -> None:
    run = subprocess.run(
        [Path(sys.executable).with_name("ckpt"), word], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"Version: {VERSION}\n"


def test_a_reader_that_has_gone_is_no_failure() -> None:
    command = f"{sys.executable} -I -m ckpt.cli --help; echo $? >&2"
    run = subprocess.run(
        ["sh", "-c", f"({command}) | true"], capture_output=True, text=True, check=True
    )
    assert run.stderr == "0\n"
