"""Files on overlayfs, as programs in containers have them, which tell other numbers than others."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.requirements import require
from tests.support.case import Case
from tests.support.programs import program


@pytest.fixture
def mounted(case: Case) -> Iterator[Path]:
    """The folder of the first victim to come, with an overlayfs `merged` in it."""
    layers = case.folder / "layers"
    for name in ("lower/folder", "upper", "work", "merged"):
        (layers / name).mkdir(parents=True)
    for name, text in (("below", "below"), ("gone", "was below"), ("folder/inside", "")):
        (layers / "lower" / name).write_text(text)
    options = ",".join(f"{n}dir={layers / n}" for n in ("lower", "upper", "work"))
    words = ["mount", "-t", "overlay", "overlay", "-o", options, str(layers / "merged")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    require(done.returncode == 0, f"no overlayfs can be mounted: {done.stderr.strip()}")
    try:
        yield layers
    finally:
        subprocess.run(["umount", "-l", layers / "merged"], check=True)


def test_files_of_both_layers(case: Case, mounted: Path) -> None:
    binary = program("outside/overlay").build(case.built)
    victim = case.start_command("sh", "-c", f"cd {mounted} && exec {binary}")
    victim.wait_ready()
    case.ckpt.dump(victim.pid, case.images, "--leave-running").ok()
    # The removed file of the layer below looked as if it had its name there still.
    differs = ["*/maps/*", "*/fd/4/file", "*/fd/4/seals"]
    case.dump_and_restore(victim, [], [], differs)
    victim.finish()
    assert (mounted / "upper" / "above").read_text() == "Above more"
    assert sorted(path.name for path in (mounted / "merged").iterdir()) == [
        *("above", "below", "folder")
    ]
