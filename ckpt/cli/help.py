"""The help texts, made from the registries of verbs and options. Plain text of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from ckpt.cli.option import Option, Status
from ckpt.cli.options import GROUPS, OPTIONS
from ckpt.cli.verbs import NOT_YET, VERBS, Verb

_WIDTH = 80
_INDENT = 26


def overview() -> str:
    """What `ckpt --help` prints."""
    lines = ["usage: ckpt VERB [options]", "", "Checkpoint and restore running process trees.", ""]
    lines += [f"  {verb.name:<12}{verb.summary}" for verb in VERBS.values()]
    lines += ["", f"not yet: {', '.join(NOT_YET)}", "", "common options:"]
    lines += [line for option in GROUPS["common"] for line in _described(option)]
    lines += ["", "examples:", *(verb.example for verb in VERBS.values())]
    lines += ["", "`ckpt VERB --help` tells the rest; ckpt(1) has the exit codes."]
    return "\n".join(lines)


def of_verb(verb: Verb) -> str:
    """What `ckpt VERB --help` prints."""
    lines = [f"usage: ckpt {verb.name} {verb.usage}", "", f"{verb.summary.capitalize()}."]
    for title, group in GROUPS.items():
        described = [line for o in group if verb.name in o.verbs for line in _described(o)]
        if described:
            lines += ["", f"{title}:", *described]
    for status in (Status.ACCEPTED, Status.REFUSED):
        names = ", ".join(
            f"--{o.name}" for o in OPTIONS if verb.name in o.verbs and o.status is status
        )
        if names:
            lines += ["", f"{status.value}:"]
            lines += textwrap.wrap(
                names,
                _WIDTH,
                initial_indent="  ",
                subsequent_indent="  ",
                break_on_hyphens=False,
            )
    lines += ["", "examples:", verb.example, "", f"See ckpt-{verb.name}(1)."]
    return "\n".join(lines)


def _described(option: Option) -> Iterator[str]:
    if option.status is not Status.IMPLEMENTED:
        return
    spelling = f"  {option.spelling}"
    text = textwrap.wrap(option.text, _WIDTH - _INDENT)
    if len(spelling) >= _INDENT - 1:
        yield spelling
    else:
        yield f"{spelling:<{_INDENT}}{text.pop(0)}"
    yield from (" " * _INDENT + line for line in text)


def option_table() -> str:
    """Every option of CRIU's and ours as the README's table (`scripts/option-table` puts it
    there)."""
    lines = ["| Option | CRIU's | Status | Remark |", "|---|---|---|---|"]
    for option in OPTIONS:
        origin = "yes" if option.criu else "ours"
        verbs = "all" if set(VERBS) <= set(option.verbs) else ", ".join(option.verbs)
        remark = option.why or f"{verbs}: {option.text}"
        spelling = option.spelling.replace("|", "\\|")
        lines.append(f"| `{spelling}` | {origin} | {option.status.value} | {remark} |")
    return "\n".join(lines)
