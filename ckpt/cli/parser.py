"""Words to options, as getopt_long(3) reads them, so that a script written for CRIU works: options
before and after the verb, `-v4`, `-vvvv`, `-ofile`, `--name=value`, unambiguous beginnings of long
names, `--no-name`, and `--` as the end. Pure: no file is read, nothing is printed.

An optional argument must be joined to its option: `-v 4` is `-v` and a stray word, in CRIU too.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ckpt.cli.option import Option, Status
from ckpt.cli.options import OPTIONS
from ckpt.errors import UsageError
from ckpt.record import field, record
from ckpt.report import Report


@record(eq=False)
class Given:
    """One occurrence of an option. `source`: the command line or a configuration's path."""

    option: Option
    argument: str | None
    negated: bool
    source: str

    @property
    def spelling(self) -> str:
        name = f"--{'no-' if self.negated else ''}{self.option.name}"
        return name if self.argument is None else f"{name}={self.argument}"


@record(eq=False)
class Args:
    """What one call of ckpt is asked to do: a value for each option of the verb, by `Option.key`.

    `notes`: what was accepted without effect, for the log. `report` is set before a verb runs.
    """

    verb: str
    operands: tuple[str, ...] = ()
    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    report: Report = field(default_factory=Report)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(f"no option sets {name!r}") from None


COMMAND_LINE = "command line"
_SHORT = {option.short: option for option in OPTIONS if option.short}
_LONG = {option.name: (option, False) for option in OPTIONS} | {
    f"no-{option.name}": (option, True) for option in OPTIONS if option.negatable
}


def scan(words: Sequence[str], source: str = COMMAND_LINE) -> tuple[list[Given], list[str]]:
    """The options in order, and the operands. Raises UsageError for an unknown option, a missing
    or an excess argument."""
    given: list[Given] = []
    operands: list[str] = []
    rest = list(reversed(words))
    while rest:
        word = rest.pop()
        if word == "--":
            operands += reversed(rest)
            break
        if word.startswith("--"):
            given.append(_scan_long(word[2:], rest, source))
        elif word.startswith("-") and word != "-":
            given += _scan_short(word[1:], rest, source)
        else:
            operands.append(word)
    return given, operands


def _scan_long(word: str, rest: list[str], source: str) -> Given:
    name, equals, joined = word.partition("=")
    option, negated = _long_option(name, source)
    argument = joined if equals else None
    wants = option.arg and not negated
    if argument is not None and not wants:
        raise UsageError("takes no argument", resource=f"--{name}", why=_from(source))
    if wants and argument is None and not option.arg_optional:
        argument = _next(f"--{name}", rest, source)
    return Given(option, argument, negated, source)


def _long_option(name: str, source: str) -> tuple[Option, bool]:
    if name in _LONG:
        return _LONG[name]
    candidates = sorted(spelling for spelling in _LONG if name and spelling.startswith(name))
    if len(candidates) == 1:
        return _LONG[candidates[0]]
    if candidates:
        names = ", ".join(f"--{candidate}" for candidate in candidates)
        raise UsageError("is ambiguous", resource=f"--{name}", why=_from(source), hint=names)
    raise UsageError(
        "unknown option", resource=f"--{name}", why=_from(source), hint="see ckpt --help"
    )


def _scan_short(letters: str, rest: list[str], source: str) -> Iterable[Given]:
    while letters:
        letter, letters = letters[0], letters[1:]
        option = _SHORT.get(letter)
        if option is None:
            raise UsageError(
                "unknown option", resource=f"-{letter}", why=_from(source), hint="see ckpt --help"
            )
        argument = None
        if option.arg:
            argument, letters = letters or None, ""
            if argument is None and not option.arg_optional:
                argument = _next(f"-{letter}", rest, source)
        yield Given(option, argument, False, source)


def _next(spelling: str, rest: list[str], source: str) -> str:
    if not rest:
        raise UsageError("needs an argument", resource=spelling, why=_from(source))
    return rest.pop()


def _from(source: str) -> str:
    return "" if source == COMMAND_LINE else f"in {source}"


def settle(verb: str, given: Iterable[Given], operands: Sequence[str]) -> Args:
    """The values that `given` leaves for `verb`; later ones win. Raises UsageError for a wrong
    argument, and one for all refused options together."""
    args = Args(verb, tuple(operands))
    args.values = {o.key: o.default for o in OPTIONS if verb in o.verbs}
    refused: dict[str, str] = {}
    for one in given:
        option = one.option
        applies = verb in option.verbs
        if one.negated and option.status is not Status.IMPLEMENTED:
            refused.pop(option.name, None)
            continue
        if option.status is Status.REFUSED:
            # A configuration may speak of other verbs; the command line speaks of this one.
            if applies or one.source == COMMAND_LINE:
                refused[option.name] = f"--{option.name}: {option.why}"
            continue
        value = _value(args, one)
        if not applies:
            if one.source == COMMAND_LINE:
                args.notes.append(f"{one.spelling} has no effect on {verb}")
        elif option.status is Status.IMPLEMENTED:
            args.values[option.key] = value
            args.values.update(dict.fromkeys(option.clears, False))
        else:
            args.notes.append(f"{one.spelling} has no effect: {option.why}")
    if refused:
        raise UsageError(f"refused: {'; '.join(refused.values())}")
    return args


def _value(args: Args, one: Given) -> Any:
    option = one.option
    before = args.values.get(option.key, option.default)
    try:
        return option.applied(before, one.argument, negated=one.negated)
    except ValueError as e:
        raise UsageError(
            f"can't be {one.argument!r}", resource=f"--{option.name}", why=f"{e}"
        ) from e
