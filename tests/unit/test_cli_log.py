"""The log's form, its levels, and when a bar is drawn."""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

import pytest

from ckpt.cli import log as log_module
from ckpt.cli.log import LogReport, open_log
from ckpt.cli.progress import Bar
from ckpt.errors import UsageError

THIS = re.escape(__file__)


def written(report: LogReport, path: Path) -> list[str]:
    report.error("e")
    report.warn("w")
    report.info("i")
    report.debug("d")
    report.stage("memory")
    report.progress(1, 2)
    report.close()
    return path.read_text().splitlines()


def test_lines_of_a_log_file_are_crius(tmp_path: Path) -> None:
    path = tmp_path / "log"
    lines = written(LogReport(4, open_log(path)), path)
    time = r"\(\d\d\.\d{6}\) "
    assert len(lines) == 5
    assert re.fullmatch(rf"{time}Error \({THIS}:\d+\): e", lines[0])
    assert re.fullmatch(rf"{time}Warn  \({THIS}:\d+\): w", lines[1])
    assert re.fullmatch(rf"{time}i", lines[2])
    assert re.fullmatch(rf"{time}d", lines[3])
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("level", "nr_lines"), [(0, 0), (1, 1), (2, 2), (3, 4), (4, 5), (9, 5)])
def test_levels(level: int, nr_lines: int, tmp_path: Path) -> None:
    path = tmp_path / "log"
    assert len(written(LogReport(level, open_log(path)), path)) == nr_lines


@pytest.mark.parametrize("to_file", [True, False])
def test_a_name_makes_no_line_of_its_own(
    to_file: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor does it speak to the terminal."""
    path = tmp_path / "log"
    report = LogReport(2, open_log(path) if to_file else None)
    report.warn("file a\n\x1b[2JError: \udcff")
    report.failed("file b\n", "ckpt/x.py:1")
    report.close()
    said = capsys.readouterr().err
    log = path.read_text() if to_file else said
    assert log.count("\n") == 2
    assert "file a\\n\\x1b[2JError: \\udcff\n" in log
    assert said.endswith("Error (ckpt/x.py:1): file b\\n\n")


def test_ckpts_own_files_are_named_from_the_root(capsys: pytest.CaptureFixture[str]) -> None:
    place = {"report": LogReport(2)}
    code = compile("report.warn('x')", "/any/where/ckpt/mem/dump.py", "exec")
    exec(code, place)
    assert capsys.readouterr().err == "Warn  (ckpt/mem/dump.py:1): x\n"


def test_standard_error_has_times_from_level_3_on(capsys: pytest.CaptureFixture[str]) -> None:
    LogReport(2).warn("w")
    assert capsys.readouterr().err.startswith("Warn  (")
    LogReport(3).warn("w")
    assert re.match(r"\(\d\d\.\d{6}\) Warn  \(", capsys.readouterr().err)


def test_what_ends_the_call_is_in_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    report = LogReport(2, open_log(path))
    report.failed("it broke", "ckpt/x.py:1")
    assert path.read_text().endswith("Error (ckpt/x.py:1): it broke\n")
    assert capsys.readouterr().err == "Error (ckpt/x.py:1): it broke\n"


def test_text_that_is_no_text_is_escaped(tmp_path: Path) -> None:
    path = tmp_path / "log"
    LogReport(2, open_log(path)).warn("file \udcff")
    assert path.read_text().endswith("file \\udcff\n")


def test_a_log_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the log can't be opened: Is a directory"):
        open_log(tmp_path)


def test_no_bar_in_a_pipe() -> None:
    report = LogReport(4)
    report.stage("memory")
    for _ in range(3):
        report.progress(1, 2)
    assert report._bar is None


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal_only_for_long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    short = Bar(patience_s=3600)
    short.progress(1, 10)
    short.progress(2, 10)
    short.close()
    assert not short.drawing
    assert terminal.getvalue() == ""

    long = Bar(patience_s=0)
    long.stage("memory")
    long.progress(1 << 20, 10 << 20)
    long.progress(2 << 20, 10 << 20)
    assert long.drawing
    long.close()
    assert "memory" in terminal.getvalue()

    assert LogReport(2)._bar is not None
    assert LogReport(0)._bar is None


def test_where_an_error_was_raised() -> None:
    place: dict[str, object] = {}
    exec(compile("def f():\n    raise KeyError", "/x/ckpt/mem/vma.py", "exec"), place)
    try:
        place["f"]()  # type: ignore[operator]
    except KeyError as e:
        assert log_module.raised_at(e.__traceback__) == "ckpt/mem/vma.py:2"
    else:
        pytest.fail("nothing was raised")
