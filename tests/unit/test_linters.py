"""Style and structure, as tests: what the tools say, and the limits of size and naming.

Every tool is the one of the environment that runs the tests.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import re
import struct
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.requirements import require

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PYTHON_ROOMS = ("ckpt", "tests", "scripts", "proto", "parasite")
MODULE_LINES, FUNCTION_LINES, C_LINES, BLOB_LINES = 400, 60, 500, 300
FORBIDDEN = {"utils", "util", "common", "helpers", "helper", "misc"}


def sources(pattern: str, *rooms: str) -> list[Path]:
    return sorted(
        path
        for room in rooms
        for path in (ROOT / room).rglob(pattern)
        if not {"build", "__pycache__"} & set(path.relative_to(ROOT).parts)
    )


PYTHON = sources("*.py", *PYTHON_ROOMS)
C = sources("*.[ch]", "ckpt", "parasite", "tests")
ASSEMBLY = sources("*.S", "parasite")


def named(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def passes(*command: str | Path) -> None:
    done = subprocess.run(
        [str(word) for word in command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command[0]}:\n{done.stdout}{done.stderr}"


def tool(name: str) -> Path:
    require((BIN / name).exists(), f"{name} is not installed beside {sys.executable}")
    return BIN / name


def test_ruff_check() -> None:
    passes(tool("ruff"), "check", *PYTHON_ROOMS)


def test_ruff_format() -> None:
    passes(tool("ruff"), "format", "--check", *PYTHON_ROOMS)


def test_mypy() -> None:
    require(importlib.util.find_spec("mypy"), "mypy is not installed")
    passes(sys.executable, "-m", "mypy", "--strict", "ckpt", "tests")


def test_layers() -> None:
    passes(tool("lint-imports"))


def test_layers_name_every_room() -> None:
    """A room that the contract does not name may import what it likes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    layers = project["tool"]["importlinter"]["contracts"][0]["layers"]
    layered = {room.strip() for layer in layers for room in layer.split("|")}
    rooms = {
        f"ckpt.{path.stem}"
        for path in (ROOT / "ckpt").iterdir()
        if path.name != "__init__.py" and (path.suffix == ".py" or (path / "__init__.py").exists())
    }
    assert rooms - layered == set()


def test_clang_format() -> None:
    passes(tool("clang-format"), "--dry-run", "-Werror", *C)


@pytest.mark.parametrize("path", PYTHON, ids=named(PYTHON))
def test_size_of_modules_and_functions(path: Path) -> None:
    text = path.read_text()
    nr_lines = text.count("\n")
    assert nr_lines <= MODULE_LINES, f"{nr_lines} lines, split it at a subject"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", C + ASSEMBLY, ids=named(C + ASSEMBLY))
def test_size_and_licence_of_c(path: Path) -> None:
    text = path.read_text()
    limit = BLOB_LINES if path.is_relative_to(ROOT / "parasite") else C_LINES
    assert text.count("\n") <= limit
    if path.is_relative_to(ROOT / "ckpt") or path.is_relative_to(ROOT / "parasite"):
        assert "SPDX-License-Identifier: GPL-2.0-only" in text.partition("\n")[0]


def test_names_say_something() -> None:
    everything = PYTHON + C + ASSEMBLY
    named_so = [p for p in everything if FORBIDDEN & {p.stem, *p.relative_to(ROOT).parts[:-1]}]
    assert named(named_so) == []


@pytest.mark.parametrize("path", sources("*.py", "ckpt"), ids=named(sources("*.py", "ckpt")))
def test_modules_say_what_they_are(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text())), "no docstring"


@pytest.mark.parametrize("path", sources("*.proto", "proto"), ids=lambda p: p.name)
def test_proto_licence_and_package(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("// SPDX-License-Identifier: MIT\n")
    assert 'syntax = "proto2";' in text
    assert "package ckpt.images;" in text


def shell_scripts() -> list[Path]:
    shebang = re.compile(rb"#!\s*/(usr/)?bin/(env )?(ba)?sh\b")
    places = (ROOT / "scripts", ROOT / ".ci", ROOT / "tests")
    files = (p for place in places for p in place.rglob("*") if p.is_file())
    return sorted(p for p in files if shebang.match(p.open("rb").readline()))


SHELL = shell_scripts()


@pytest.mark.parametrize("path", SHELL, ids=named(SHELL))
def test_shell_syntax(path: Path) -> None:
    shell = "bash" if b"bash" in path.open("rb").readline() else "sh"
    passes(shell, "-n", path)


def test_tests_do_not_sleep() -> None:
    """A test that waits for time to pass is slow on one machine and wrong on another."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources("*.py", "tests")
        if "victims" not in path.parts and "programs" not in path.parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("time.sleep", "sleep")
    ]
    assert found == []


def test_wire_is_what_cffi_can_read() -> None:
    from cffi import FFI

    text = (ROOT / "parasite/include/wire.h").read_text()
    defines = re.sub(r"^#define\s+(\w+)\s+\S.*$", r"#define \1 ...", text, flags=re.MULTILINE)
    ffi = FFI()
    ffi.cdef(defines)
    assert not re.search(r"^\s*#\s*(if|include|ifdef|ifndef)", text, re.MULTILINE)
    for name in ("ckpt_blob_header", "ckpt_session", "ckpt_entry", "ckpt_batch"):
        assert ffi.typeof(f"struct {name}").kind == "struct"


def test_blob_and_extension_are_of_one_build() -> None:
    from ckpt._native import ffi, lib

    spec = importlib.util.find_spec("ckpt.infect")
    assert spec is not None
    assert spec.origin is not None
    blob = Path(spec.origin).with_name("blob.bin").read_bytes()
    header = ffi.new("struct ckpt_blob_header *")
    size = ffi.sizeof("struct ckpt_blob_header")
    ffi.memmove(header, blob[:size], size)
    assert header.magic == lib.CKPT_BLOB_MAGIC
    assert header.version == lib.CKPT_WIRE_VERSION
    assert header.size == len(blob) <= lib.CKPT_BLOB_MAX
    assert header.wire_hash == lib.ckpt_wire_hash
    for offset in (header.entry, header.syscall, header.park, header.stub + header.stub_len):
        assert 0 < offset <= len(blob)
    digest = hashlib.sha256((ROOT / "parasite/include/wire.h").read_bytes()).digest()
    assert struct.unpack("<Q", digest[:8])[0] == lib.ckpt_wire_hash, "installed from other sources"
