"""--file-validation: a program that was replaced meanwhile is found out, or is let pass."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.requirements import require
from tests.support.case import Case
from tests.support.victim import Victim

RESTORE = 6
ID = "0123456789abcdef0123456789abcdef01234567"


def compiled(folder: Path, build_id: str) -> Path:
    """A program that waits for its end, with a build id of our choice."""
    source = folder / "program.c"
    source.write_text('#include "victim.h"\nint main(void) { ready_and_wait(); pass(); }\n')
    victims = Path(__file__).resolve().parent.parent / "victims"
    program = folder / f"program-{build_id[:4]}"
    flags = ["-pthread", "-g", f"-I{victims}", f"-Wl,--build-id=0x{build_id}"]
    subprocess.run(["gcc", *flags, "-o", program, source], check=True)
    return program


def dumped(case: Case, *options: str) -> tuple[Victim, Path]:
    program = case.folder / "program"
    shutil.copy(compiled(case.folder, ID), program)
    victim = case.start_command(str(program))
    victim.wait_ready()
    pids = victim.tree
    case.ckpt.dump(victim.pid, case.images, *options).ok()
    victim.await_gone(pids)
    return victim, program


def test_another_build_of_the_same_size(case: Case) -> None:
    victim, program = dumped(case, "--file-validation", "buildid")
    other = ID[::-1]
    before = program.stat().st_size
    shutil.copy(compiled(case.folder, other), program)
    assert program.stat().st_size == before
    refused = case.ckpt.restore(case.images, "--file-validation=buildid")
    refused.failed(RESTORE, f"build id {other}", ID, str(program))
    shutil.copy(case.folder / f"program-{ID[:4]}", program)
    case.ckpt.restore(case.images, "--file-validation=buildid").ok()
    victim.finish()


def test_the_same_build_without_its_symbols(case: Case) -> None:
    """What is mapped of it is the same, though its size is not."""
    require(shutil.which("strip"), "binutils are not installed")
    victim, program = dumped(case, "--file-validation", "buildid")
    subprocess.run(["strip", "--strip-debug", program], check=True)
    case.ckpt.restore(case.images).failed(RESTORE, "bytes, at the dump it had", str(program))
    case.ckpt.restore(case.images, "--file-validation", "buildid").ok()
    victim.finish()


def test_images_without_build_ids_are_compared_by_size(case: Case) -> None:
    victim, program = dumped(case)
    subprocess.run(["strip", "--strip-debug", program], check=True)
    refused = case.ckpt.restore(case.images, "--file-validation", "buildid")
    refused.failed(RESTORE, "bytes, at the dump it had", str(program))
    shutil.copy(case.folder / f"program-{ID[:4]}", program)
    case.ckpt.restore(case.images).ok()
    victim.finish()
