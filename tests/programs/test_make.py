"""A parallel build in the middle: make, the shell, the compiler and what it starts."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.requirements import require
from tests.support import processes
from tests.support.case import Case
from tests.support.victim import Victim
from tests.support.waiting import wait_until

NR = 8
MAKEFILE = """
program: main.o $(addsuffix .o,$(PARTS))
	@cc -o $@ $^ && echo linked
main.o: main.c
	@: < $(VICTIM_FOLDER)/go; cc -c -o $@ $< && echo compiled main
%.o: %.c
	@cc -O2 -c -o $@ $< && echo compiled $*
"""


def written(folder: Path) -> list[str]:
    """Sources of a program that prints a sum; the names of its parts."""
    folder.mkdir()
    parts = [f"part{n}" for n in range(NR)]
    for n, part in enumerate(parts):
        body = "\n".join(f"int {part}_{i}(int x) {{ return x * {i} + {n}; }}" for i in range(100))
        calls = " + ".join(f"{part}_{i}({n})" for i in range(100))
        (folder / f"{part}.c").write_text(f"{body}\nint {part}(void) {{ return {calls}; }}\n")
    declared = "\n".join(f"int {part}(void);" for part in parts)
    total = " + ".join(f"{part}()" for part in parts)
    (folder / "main.c").write_text(
        f'#include <stdio.h>\n{declared}\nint main(void) {{ printf("%d\\n", {total}); }}\n'
    )
    (folder / "Makefile").write_text(f"PARTS = {' '.join(parts)}\n{MAKEFILE}")
    return parts


def started(case: Case) -> tuple[Victim, Path, list[str]]:
    require(shutil.which("make") and shutil.which("cc"), "make or cc is not installed")
    folder = case.folder / "build"
    parts = written(folder)
    build = case.start_command(
        "sh", "-c", f"make -j2 -C {folder} && echo EXIT-SUCCESS", TMPDIR=str(case.folder)
    )
    return build, folder, parts


def test_a_build_goes_on(case: Case) -> None:
    """Dumped and restored twice while compilers run; everything is compiled once, and is right.

    Without main.o, which waits, the build is not over before we want it to be."""
    build, folder, parts = started(case)
    for nr_done in (1, 4):
        wait_until(build.pid, lambda nr=nr_done: build.out.count("compiled") >= nr)  # type: ignore[misc]
        images = case.folder / f"images{nr_done}"
        case.ckpt.dump(build.pid, images).ok()
        processes.reap_orphans()  # a running build is never what it was when one looked
        build.await_gone([build.pid])
        case.ckpt.restore(images).ok()
    build.finish(60)
    compiled = [line.split()[1] for line in build.out.splitlines() if line.startswith("compiled")]
    assert sorted(compiled) == sorted([*parts, "main"])
    answer = subprocess.run([folder / "program"], capture_output=True, text=True, check=True)
    wanted = sum(n * i + n for n in range(NR) for i in range(100))
    assert answer.stdout == f"{wanted}\n"
    assert not [name for name in os.listdir(case.folder) if name.startswith("cc")]
