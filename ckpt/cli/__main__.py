"""The entry point of `ckpt` and of `python -m ckpt.cli`. Imports next to nothing until it knows
that it must: starting is part of every dump."""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> int:
    """Runs ckpt with `argv` (without the program's name; default: this process's). The exit
    code."""
    words = sys.argv[1:] if argv is None else argv
    if words in (["--version"], ["-V"]):
        from ckpt.cli.version import VERSION

        print(f"Version: {VERSION}")
        return 0
    from ckpt.cli.invoke import invoke

    return invoke(words)


if __name__ == "__main__":
    sys.exit(main())
