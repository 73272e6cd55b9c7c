"""Build ids: what binutils says they are, and files that lie about them."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ckpt.files.buildid import build_id_of, from_words, to_words
from tests.requirements import require

PROGRAM = str(Path(sys.executable).resolve())


def test_as_readelf_says() -> None:
    require(shutil.which("readelf"), "binutils are not installed")
    for path in (PROGRAM, str(Path("/lib/x86_64-linux-gnu/libc.so.6").resolve())):
        said = subprocess.run(
            ["readelf", "-n", path], capture_output=True, text=True, timeout=60, check=True
        ).stdout
        found = re.search(r"Build ID: ([0-9a-f]+)", said)
        assert build_id_of(path).hex() == (found[1] if found else "")


def test_what_has_none(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("\x7fELF\x02\x01 it is not")
    for path in (tmp_path / "text", tmp_path, tmp_path / "gone", Path("/dev/null")):
        assert build_id_of(str(path)) == b""


def test_hostile_files(tmp_path: Path) -> None:
    """Whatever stands in the headers: an answer, in no time and little memory."""
    chance = random.Random(3)
    whole = Path("/bin/true").read_bytes()
    here = build_id_of("/bin/true")
    assert here
    at = whole.index(here)
    file = tmp_path / "file"
    for _ in range(3000):
        changed = bytearray(whole[: at + len(here)])
        for _ in range(chance.randint(1, 6)):
            where = chance.choice((chance.randrange(64), chance.randrange(at)))
            changed[where] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        file.write_bytes(changed[: chance.choice((len(changed), chance.randrange(len(changed))))])
        assert build_id_of(str(file)) in (b"", here)


def test_words() -> None:
    assert to_words(b"\1\0\0\0\2") == [1, 2]
    assert from_words([1, 2]) == b"\1\0\0\0\2\0\0\0"
