"""Configuration files: syntax, order, and which of them count."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt.cli.config import configured, parse_line
from ckpt.cli.parser import Args, scan, settle
from ckpt.errors import UsageError


@pytest.mark.parametrize(
    ("line", "spelling"),
    [
        ("shell-job", "--shell-job"),
        ("  shell-job  # of a shell", "--shell-job"),
        ("no-file-locks", "--no-file-locks"),
        ("timeout 5", "--timeout=5"),
        ("timeout\t5", "--timeout=5"),
        ("verbosity 4", "--verbosity=4"),
        ('work-dir "/a b/c"', "--work-dir=/a b/c"),
        (r'work-dir "say \"x\" # y"', '--work-dir=say "x" # y'),
        ('log-file ""', "--log-file="),
        ("--shell-job", "--shell-job"),
    ],
)
def test_a_line_is_an_option(line: str, spelling: str) -> None:
    (option,) = parse_line(line, "f:1")
    assert option.spelling == spelling
    assert option.source == "f:1"


@pytest.mark.parametrize("line", ["", "   ", "# shell-job", "   # x"])
def test_lines_without_an_option(line: str) -> None:
    assert parse_line(line, "f:1") == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("bogus", "--bogus: unknown option: in f:7"),
        ("timeout", "--timeout: needs an argument: in f:7"),
        ("shell-job yes", "takes no argument: in f:7"),
        ("work-dir a b", "f:7: more than one argument"),
        ('work-dir "a', "f:7: the quote is not closed"),
        ("config x", "f:7: belongs on the command line"),
        ("exec-cmd", "f:7: belongs on the command line"),
        ("--", "f:7: an option's name is missing"),
        ('"" x', "f:7: an option's name is missing"),
    ],
)
def test_wrong_lines_are_named(line: str, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_line(line, "f:7")
    assert message in str(error.value)


def settled(words: list[str], environ: dict[str, str], system: Path) -> Args:
    on_line, operands = scan(words)
    options = [*configured(on_line, environ, system), *on_line]
    return settle(operands[0], options, operands[1:])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    paths = {
        "system": tmp_path / "system.conf",
        "home": tmp_path / "home/.ckpt/default.conf",
        "variable": tmp_path / "variable.conf",
        "named": tmp_path / "named.conf",
    }
    paths["home"].parent.mkdir(parents=True)
    for timeout_s, (name, path) in enumerate(paths.items(), 1):
        path.write_text(f"timeout {timeout_s}\nlog-file {name}\n")
    return paths


def test_later_ones_win(files: dict[str, Path], tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path / "home")}
    variable = {"CKPT_CONFIG_FILE": str(files["variable"])}
    nowhere = tmp_path / "nowhere"
    named = ["dump", "--config", str(files["named"])]

    assert settled(["dump"], {}, nowhere).timeout is None
    assert settled(["dump"], {}, files["system"]).timeout == 1
    assert settled(["dump"], home, files["system"]).timeout == 2
    assert settled(["dump"], home | variable, files["system"]).timeout == 3
    assert settled(named, home | variable, files["system"]).timeout == 4
    assert settled([*named, "--timeout=9"], home, files["system"]).timeout == 9


def test_default_ones_are_left_out(files: dict[str, Path], tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path / "home")}
    assert settled(["dump", "--no-default-config"], home, files["system"]).timeout is None
    files["named"].write_text("shell-job\n")
    args = settled(["dump", f"--config={files['named']}"], home, files["system"])
    assert (args.timeout, args.shell_job) == (None, True)


def test_a_named_one_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone: can't be read: No such file"):
        settled(["dump", "--config", str(tmp_path / "gone")], {}, tmp_path)


def test_options_of_other_verbs_are_no_matter(files: dict[str, Path]) -> None:
    files["system"].write_text("restore-detached\ntcp-established\nstream\n")
    args = settled(["check"], {}, files["system"])
    assert args.notes == []
    with pytest.raises(UsageError, match="--stream"):
        settled(["dump"], {}, files["system"])


def test_a_huge_one_is_not_read(files: dict[str, Path]) -> None:
    files["system"].write_bytes(b"#" * (1 << 21))
    with pytest.raises(UsageError, match="too long"):
        settled(["dump"], {}, files["system"])


@given(st.text(max_size=30) | st.text('tree "\\#=-1', max_size=30))
def test_any_line_is_an_option_or_a_named_error(line: str) -> None:
    try:
        options = parse_line(line, "f:7")
    except UsageError as error:
        assert "f:7" in str(error)
    else:
        assert len(options) <= 1


@given(st.text(min_size=1, max_size=30))
def test_quotes_keep_any_argument(text: str) -> None:
    # A backslash before the closing quote can't be written, as in CRIU's form.
    argument = text.rstrip("\\").replace('\\"', '"').replace("\n", "")
    quoted = argument.replace('"', '\\"')
    (option,) = parse_line(f'log-file "{quoted}"', "f:7")
    assert option.argument == argument
