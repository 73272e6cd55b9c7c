"""vim on a terminal of the tree, or as a job of a shell, with text that is in no file yet."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

from tests.requirements import require
from tests.support import processes
from tests.support.case import Case
from tests.support.ckptcmd import CKPT
from tests.support.terminals import high_numbers
from tests.support.tmux import Session
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


def test_vim_as_a_job_of_a_shell(case: Case) -> None:
    """`--shell-job` as one uses it: dumped from elsewhere, restored by a command in that shell,
    which then stands in the foreground for it; stopped by ^Z, fetched back by fg, and ended."""
    require(shutil.which("vim"), "vim is not installed")
    session = Session(case)
    text = case.folder / "text"
    session.enter("PS1='> '; clear")
    session.enter(f"vim -N -u NONE -i NONE {text}")
    session.until_running("vim")
    session.type("ihalf-")
    session.until_shown("half-")
    (editor,) = [pid for pid in session.server.tree if processes.name(pid) == "vim"]
    case.ckpt.dump(editor, case.images, "--shell-job").ok()
    session.until_shown("Killed")
    log = case.folder / "log"
    session.enter(f"clear; {CKPT} restore -D {case.images} -j -v4 -o {log}")
    wait_until(session.server.pid, partial(holds, log, b"Waiting for pid"))
    session.type("finished")
    session.until_shown("finished")
    session.run("send-keys", "Escape")
    session.run("send-keys", "C-z")
    session.until_shown("Stopped")
    session.enter("fg; echo ended=$?")
    session.until_shown("half-finished")
    session.enter(":wq")
    session.until_shown("ended=0")
    assert text.read_text() == "half-finished\n"
    session.run("kill-server")
