"""Images of a chain of three sets that was deduplicated, byte for byte: ckpt-parent, ckpt-punched.

Pages are made again by their rule; the sums in the old images say that they are the right ones.
Renew with: python -m tests.golden.test_chain_golden (then read the difference).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest

# The installed package goes before the sources: it alone has the generated modules.
ROOT = str(Path(__file__).resolve().parent.parent.parent)
sys.path[:] = [entry for entry in sys.path if entry not in ("", ROOT)] + [ROOT]

from ckpt.errors import ImageError  # noqa: E402
from ckpt.images.chain import Chain  # noqa: E402
from ckpt.images.dedup import dedup  # noqa: E402
from ckpt.images.pagemap import PE_PARENT, PE_PRESENT  # noqa: E402
from tests.golden.test_images_golden import as_text  # noqa: E402
from tests.support.chain_sets import make, numbers, pages  # noqa: E402

FOLDER = Path(__file__).parent / "chain"
P, N = PE_PARENT, PE_PRESENT
RUNS = {
    "0": [pages(0, 6, N)],
    "1": [pages(0, 1, P), pages(1, 3, N), pages(4, 2, P)],
    "2": [pages(0, 1, N), pages(1, 1, P), pages(2, 1, N), pages(3, 2, P), pages(6, 1, N)],
}
RESTORED = {0: 200, 1: 100, 2: 201, 3: 102, 4: 4, 6: 202}


def build(folder: Path) -> None:
    for number, runs in RUNS.items():
        before = str(int(number) - 1)
        make(
            folder / number,
            runs,
            f"../{before}" if number != "0" else "",
            run_id=f"00000000-0000-4000-8000-00000000000{number}",
            parent_id=f"00000000-0000-4000-8000-00000000000{before}" if number != "0" else None,
            seed=100 * int(number),
        )


def made() -> dict[str, str]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build(folder)
        dedup(folder / "2")
        files = [path for path in folder.glob("?/*.img") if not path.name.startswith("pages-")]
        return {f"{path.parent.name}/{path.name}": as_text(path.read_bytes()) for path in files}


def golden() -> dict[str, str]:
    return {f"{p.parent.name}/{p.stem}": p.read_text() for p in FOLDER.glob("?/*.hex")}


def test_the_bytes_are_the_same() -> None:
    assert made() == golden()


def test_the_old_bytes_are_read(tmp_path: Path) -> None:
    build(tmp_path)
    for number in RUNS:
        for path in (tmp_path / number).glob("*.img"):
            if not path.name.startswith("pages-"):
                path.unlink()
    for name, text in golden().items():
        (tmp_path / name).write_bytes(bytes.fromhex(text))
    with Chain(tmp_path / "2") as chain:
        chain.verify_pages().wait()
        assert numbers(chain) == RESTORED
    for older in ("0", "1"):
        with Chain(tmp_path / older) as chain, pytest.raises(ImageError, match="has lost"):
            chain.resolve("pagemap-7")


if __name__ == "__main__":
    for name, text in made().items():
        path = FOLDER / f"{name}.hex"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
