"""vim on a terminal of the tree, with text that is in no file yet."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

from tests.requirements import require
from tests.support import processes
from tests.support.case import Case
from tests.support.terminals import high_numbers
from tests.support.waiting import wait_until


def holds(file: Path, text: bytes) -> bool:
    return file.exists() and text in file.read_bytes()


def test_vim_edits_and_saves(case: Case) -> None:
    """script(1) has the terminal, vim edits on it; half a word before the dump, the rest after the
    restore, an undo of what was before, and the file is right."""
    require(shutil.which("vim") and shutil.which("script"), "vim or script is not installed")
    keys = case.folder / "keys"
    os.mkfifo(keys)
    lfd = os.open(keys, os.O_RDWR)
    text = case.folder / "text"
    text.write_text("first line\nsecond line\n")
    with high_numbers():
        source = os.open(keys, os.O_RDONLY)
        editor = case.start_command(
            *("script", "-q", "-f", "-c", f"vim -N -u NONE -i NONE {text}", "screen"),
            stdin=source,
            TERM="vt100",
        )
        os.close(source)
        screen = editor.folder / "screen"
        wait_until(editor.pid, partial(holds, screen, b"second line"))
    os.write(lfd, b"Gddothird half-")
    wait_until(editor.pid, partial(holds, screen, b"half-"))
    for _ in range(2):
        # The swap file is written when vim thinks that it is time.
        case.dump_and_restore(editor, [], [], ["*/maps/*", "*/fd/4/pos", "*/fd/4/size"])
    os.write(lfd, b"finished\x1b:w\r")
    wait_until(editor.pid, partial(holds, text, b"finished"))
    assert text.read_text() == "first line\nthird half-finished\n"
    os.write(lfd, b"uuofourth\x1b:wq\r")
    assert processes.wait_end(editor.pid, 60) in (0, None)
    editor.process.returncode = 0
    assert text.read_text() == "first line\nsecond line\nfourth\n"
    os.close(lfd)
