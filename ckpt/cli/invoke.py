"""One call of ckpt, from its words to its exit code. Order: help and version win over everything;
then the verb, the configurations, the options, the folders, the log; then the verb's module."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Sequence
from pathlib import Path

from ckpt.cli.config import configured
from ckpt.cli.log import LogReport, open_log
from ckpt.cli.outcome import ended_by_signals, failure
from ckpt.cli.output import show
from ckpt.cli.parser import Args, Given, scan, settle
from ckpt.cli.verbs import NOT_YET, VERBS, Verb
from ckpt.cli.version import VERSION
from ckpt.errors import ImageError, UsageError


def invoke(words: Sequence[str]) -> int:
    """The exit code. Prints help, results and errors; raises nothing."""
    report = LogReport(level=1, start_s=time.monotonic())
    try:
        with ended_by_signals():
            given, operands = scan(words)
            if any(g.option.name == "help" for g in given):
                _show_help(VERBS.get(operands[0]) if operands else None)
                return 0
            if any(g.option.name == "version" for g in given):
                show(f"Version: {VERSION}")
                return 0
            verb, args = _args(given, operands)
            report = args.report = _prepared(verb, args)
            return _run(verb, args)
    except BaseException as e:
        return failure(e, report)
    finally:
        report.close()


def _show_help(verb: Verb | None) -> None:
    from ckpt.cli import help as help_texts

    show(help_texts.of_verb(verb) if verb else help_texts.overview())


def _args(given: list[Given], operands: list[str]) -> tuple[Verb, Args]:
    if not operands:
        raise UsageError("a verb is missing", hint=f"one of {', '.join(VERBS)}; see ckpt --help")
    name, *rest = operands
    if name in NOT_YET:
        raise UsageError("not yet", resource=name, why=NOT_YET[name])
    if name not in VERBS:
        raise UsageError("unknown verb", resource=name, hint=f"one of {', '.join(VERBS)}")
    verb = VERBS[name]
    executes = any(g.option.name == "exec-cmd" for g in given) and name == "restore"
    if len(rest) > verb.operands and not executes:
        raise UsageError(
            "one word too many for this verb",
            resource=rest[verb.operands],
            hint="an optional argument is joined to its option: -v4, --cpu-cap=all",
        )
    return verb, settle(name, [*configured(given, os.environ), *given], rest)


def _prepared(verb: Verb, args: Args) -> LogReport:
    """The report that the verb speaks to. Relative names of logs are in the work folder."""
    for lfd in args.close:
        _close(lfd)
    images_dir = Path(args.images_dir or ".")
    work_dir = Path(args.work_dir or images_dir)
    if verb.folders:
        _must_be_folder(images_dir, "--images-dir")
        _must_be_folder(work_dir, "--work-dir")
    args.values.update(images_dir=images_dir, work_dir=work_dir)
    lfd = open_log(work_dir / args.log_file) if args.log_file else None
    report = LogReport(args.log_level, lfd)
    report.info(f"ckpt {VERSION}: {verb.name}")
    for note in args.notes:
        report.info(note)
    return report


def _close(lfd: int) -> None:
    try:
        os.close(lfd)
    except OSError as e:
        raise UsageError("can't be closed", resource=f"--close {lfd}", why=f"{e.strerror}") from e


def _must_be_folder(path: Path, option: str) -> None:
    try:
        os.close(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as e:
        kind = ImageError if option == "--images-dir" else UsageError
        raise kind(
            "not a folder that can be used",
            resource=f"{option} {path}",
            why=f"{e.strerror}",
            hint=f"mkdir -p {path}" if isinstance(e, FileNotFoundError) else "",
        ) from e


def _run(verb: Verb, args: Args) -> int:
    code: int = importlib.import_module(verb.module).run(args)
    return code
