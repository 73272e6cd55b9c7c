"""Configuration files: options without their dashes, one a line, `#` begins a comment.

Order, later ones win: /etc/ckpt/default.conf, $HOME/.ckpt/default.conf, the file that the variable
CKPT_CONFIG_FILE names, `--config FILE`, the command line. `--config` and `--no-default-config`
leave the first two out. An argument with blanks stands in double quotes, in which `\\"` is a quote.
A default file that is missing or unreadable is passed over, one that was named is not.

Source: criu(8), section CONFIGURATION FILES; CRIU's files are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ckpt.cli.parser import Given, scan
from ckpt.errors import UsageError

SYSTEM_CONFIG = Path("/etc/ckpt/default.conf")
MAX_CONFIG = 1 << 20


def configured(
    given: list[Given], environ: Mapping[str, str], system: Path = SYSTEM_CONFIG
) -> list[Given]:
    """The options of all configurations that count beside the command line's `given`."""
    named = [g.argument for g in given if g.option.name == "config" and g.argument]
    without_default = bool(named) or any(g.option.name == "no-default-config" for g in given)
    options: list[Given] = []
    if not without_default:
        options += _read(system, required=False)
        if environ.get("HOME"):
            options += _read(Path(environ["HOME"], ".ckpt/default.conf"), required=False)
    if environ.get("CKPT_CONFIG_FILE"):
        options += _read(Path(environ["CKPT_CONFIG_FILE"]), required=True)
    if named:
        options += _read(Path(named[-1]), required=True)
    return options


def _read(path: Path, *, required: bool) -> list[Given]:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG + 1)
    except OSError as e:
        if not required:
            return []
        raise UsageError("can't be read", resource=f"{path}", why=e.strerror or f"{e}") from e
    if len(content) > MAX_CONFIG:
        raise UsageError("is too long for a configuration", resource=f"{path}")
    options: list[Given] = []
    for number, line in enumerate(content.decode(errors="surrogateescape").split("\n"), 1):
        options += parse_line(line, f"{path}:{number}")
    return options


def parse_line(line: str, source: str) -> list[Given]:
    """No option or one. Raises UsageError that names `source`."""
    words = _words(line, source)
    if not words:
        return []
    if len(words) > 2:
        raise UsageError("more than one argument", resource=source, hint='use "quotes"')
    name = words[0].removeprefix("--")
    if not name:
        raise UsageError("an option's name is missing", resource=source)
    word = f"--{name}={words[1]}" if len(words) == 2 else f"--{name}"
    given, _ = scan([word], source)
    if given[0].option.name in ("config", "no-default-config", "help", "version", "exec-cmd"):
        raise UsageError("belongs on the command line", resource=source, why=f"--{name}")
    return given


def _words(line: str, source: str) -> list[str]:
    words: list[str] = []
    rest = line.strip()
    while rest and not rest.startswith("#"):
        if rest.startswith('"'):
            word, rest = _quoted(rest[1:], source)
        else:
            word, *after = rest.split(maxsplit=1)
            rest = after[0] if after else ""
        words.append(word)
        rest = rest.lstrip()
    return words


def _quoted(rest: str, source: str) -> tuple[str, str]:
    word = ""
    while True:
        part, quote, rest = rest.partition('"')
        if not quote:
            raise UsageError("the quote is not closed", resource=source)
        if not part.endswith("\\"):
            return word + part, rest
        word += part[:-1] + '"'
