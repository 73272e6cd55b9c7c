"""Files without a name: the bound on their size, what crit reads of them, what is left behind."""

from __future__ import annotations

import base64
import os
import random
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ckpt.files import FileOptions, FilesDump
from tests.support import descriptors as ds
from tests.support import processes
from tests.support.case import Case
from tests.support.crit import decoded
from tests.support.programs import program
from tests.support.victim import Victim
from tests.support.waiting import wait_until

REFUSED = 3
SIZE = 3 * 4096 + 5
FAR = 1 << 30


def test_one_inode_is_carried_once_and_crit_reads_it(case: Case) -> None:
    victim = case.start(program("files/deleted", "file"))
    case.ckpt.dump(victim.pid, case.images, "-R").ok()
    assert sorted(path.name for path in case.images.glob("ghost-*")) == ["ghost-file-1.img"]
    (ghost,) = decoded(case.images / "ghost-file-1.img")
    assert len(base64.b64decode(ghost["extra"])) == SIZE
    assert int(str(ghost["mode"]), 0) == stat.S_IFREG | 0o4751
    remaps = decoded(case.images / "remap-fpath.img")
    assert [(r["remap_id"], r["remap_type"]) for r in remaps] == [(1, "GHOST")] * 3
    lost = {r["orig_id"] for r in remaps}
    files = {f["id"]: f["reg"] for f in decoded(case.images / "files.img") if "reg" in f}
    assert {files[i]["name"] for i in lost} == {f"{victim.folder}/gone"}
    victim.finish()


def test_holes_are_not_carried(case: Case) -> None:
    victim = case.start(program("files/deleted", "sparse"))
    case.ckpt.dump(victim.pid, case.images, "-R").ok()
    head, *chunks = decoded(case.images / "ghost-file-1.img")
    assert head["chunks"] and head["size"] == FAR + 3
    assert chunks[0]["off"] == 0
    assert chunks[-1]["off"] + chunks[-1]["len"] == FAR + 3
    assert (case.images / "ghost-file-1.img").stat().st_size < 1 << 18
    victim.finish()


def test_the_limit_is_named_and_can_be_moved(case: Case) -> None:
    victim = case.start(program("files/deleted", "file"))
    refused = case.ckpt.dump(victim.pid, case.images, "--ghost-limit", "12K")
    refused.failed(REFUSED, f"{SIZE} bytes", f"--ghost-limit {SIZE}", "gone (deleted)")
    assert not list(case.images.iterdir())
    case.dump_and_restore(victim, ["--ghost-limit", "13K"], [], [])
    victim.finish()


def test_a_restore_that_fails_leaves_no_name(case: Case) -> None:
    """The folder is a witness: nothing is in it that was not there before."""
    victim = case.start(program("files/deleted", "executable"))
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images).ok()
    victim.await_gone(pids)
    before = sorted(os.listdir(victim.folder))
    out = victim.folder / "out"
    text = out.read_bytes()
    out.unlink()
    failed = case.ckpt.restore(case.images)
    assert failed.exit_code != 0, str(failed)
    out.write_bytes(text)
    assert sorted(os.listdir(victim.folder)) == before
    case.ckpt.restore(case.images).ok()
    assert sorted(os.listdir(victim.folder)) == before
    victim.finish()


MAKER = """
import os, stat, sys
from ckpt._native import ffi, lib
folder = os.open(sys.argv[1], os.O_PATH | os.O_DIRECTORY)
name = ffi.new("char[]", b"name")
wanted = ffi.new("struct ckpt_nameless *",
    {"dir": folder, "from": -1, "mode": int(sys.argv[2], 8) | 0o700, "name": name})
os.write(1, b"x")
while True:
    lfd = lib.ckpt_nameless(wanted)
    assert lfd >= 0, lfd
    os.close(lfd)
"""


def test_killed_while_names_come_and_go(tmp_path: Path) -> None:
    """The three calls that a name lives for are made by a child that outlives us."""
    chance = random.Random(7)
    folder = tmp_path / "made"
    folder.mkdir()
    for mode in ("100000", "040000") * 15:
        with subprocess.Popen(
            [sys.executable, "-c", MAKER, folder, mode], cwd=tmp_path, stdout=subprocess.PIPE
        ) as maker:
            assert maker.stdout is not None and maker.stdout.read(1) == b"x"
            with pytest.raises(subprocess.TimeoutExpired):
                maker.wait(chance.uniform(0, 0.003))
            maker.kill()
        processes.reap_orphans()
        wait_until(os.getpid(), lambda: not list(folder.iterdir()), 60)


LINKED = program("files/linked", "file")


def names(victim: Victim) -> set[str]:
    return set(os.listdir(victim.folder))


def test_other_names_want_their_option(case: Case) -> None:
    victim = case.start(LINKED)
    before = names(victim)
    case.ckpt.dump(victim.pid, case.images).failed(REFUSED, "other names", "--link-remap")
    assert names(victim) == before
    victim.finish()


def test_the_name_made_for_the_images_is_gone_after_the_restore(case: Case) -> None:
    victim = case.start(LINKED)
    before, pids = names(victim), victim.tree
    case.ckpt.dump(victim.pid, case.images, "--link-remap").ok()
    victim.await_gone(pids)
    (made,) = names(victim) - before
    files = {f["id"]: f["reg"] for f in decoded(case.images / "files.img") if "reg" in f}
    (remap,) = decoded(case.images / "remap-fpath.img")
    assert files[remap["remap_id"]]["name"] == f"{victim.folder}/{made}"
    assert files[remap["orig_id"]]["name"] == f"{victim.folder}/gone"
    assert remap["remap_type"] == "LINKED"
    # Where its restore fails, the name has to stay for the next.
    out = victim.folder / "out"
    out.rename(victim.folder / "aside")
    assert case.ckpt.restore(case.images).exit_code != 0
    (victim.folder / "aside").rename(out)
    assert names(victim) == before | {made}
    case.ckpt.restore(case.images).ok()
    assert names(victim) == before
    again = case.ckpt.restore(case.images)
    assert again.exit_code != 0, str(again)
    victim.finish()


@pytest.mark.parametrize("how", ["fails", "killed", "whole"])
def test_names_made_by_a_dump_that_ends_early(how: str, tmp_path: Path) -> None:
    """They are there while the set is made whole, and stay only if it is."""
    file, other = tmp_path / "gone", tmp_path / "other"
    code = f"f = os.open({str(file)!r}, os.O_CREAT)\nos.link({str(file)!r}, {str(other)!r})\n"
    with ds.Stander(f"{code}os.unlink({str(file)!r})\nstand()") as child:
        controller = os.fork()
        if controller == 0:
            _make_names(child.pid, tmp_path, how)
        status = os.waitpid(controller, 0)[1]
    wanted = {"fails": 5 << 8, "killed": signal.SIGKILL, "whole": 0}
    assert status == wanted[how]
    processes.reap_orphans()
    left = 2 if how == "whole" else 1
    wait_until(os.getpid(), lambda: len(os.listdir(tmp_path)) == left, 60)


def _make_names(pid: int, folder: Path, how: str) -> None:
    """What a dump does at its end, in a process of its own."""
    files = FilesDump(FileOptions(link_remap=True))
    files.collect(pid, os.pidfd_open(pid))
    files.resolve()
    files.close()
    try:
        with files.links() as made:
            if len(os.listdir(folder)) != 2 or files.refusals:
                os._exit(9)
            if how == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            if how == "fails":
                raise OSError(how)
            made.keep()
    except OSError:
        os._exit(5)
    os._exit(0)
