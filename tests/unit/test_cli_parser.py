"""Words to options as getopt_long(3) and CRIU read them."""

from __future__ import annotations

import os
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ckpt.cli.option import Option, Status
from ckpt.cli.options import OPTIONS
from ckpt.cli.parser import Args, scan, settle
from ckpt.errors import UsageError


def parse(*words: str) -> Args:
    given_options, operands = scan(words)
    return settle(operands[0], given_options, operands[1:])


@pytest.mark.parametrize(
    ("words", "level"),
    [
        ([], 2),
        (["-v"], 3),
        (["-vv"], 4),
        (["-v", "-v"], 4),
        (["-vvvv"], 6),
        (["-v4"], 4),
        (["-v0"], 0),
        (["-v", "-v1"], 1),
        (["--verbosity=3"], 3),
        (["--verbosity"], 3),
    ],
)
def test_verbosity(words: list[str], level: int) -> None:
    assert parse("dump", *words).log_level == level
    assert parse(*words, "dump").log_level == level


def test_a_level_apart_from_its_option_is_a_stray_word() -> None:
    assert scan(["dump", "-v", "4"])[1] == ["dump", "4"]


@pytest.mark.parametrize("words", [["-Dx"], ["-D", "x"], ["--images-dir=x"], ["--images-dir", "x"]])
def test_arguments_joined_and_apart(words: list[str]) -> None:
    assert parse("dump", *words).images_dir == "x"
    assert parse(*words, "dump").images_dir == "x"


def test_short_options_in_one_word() -> None:
    args = parse("dump", "-Rjlt12")
    assert (args.leave_running, args.shell_job, args.file_locks, args.tree) == (
        True,
        True,
        True,
        12,
    )


def test_unambiguous_beginnings_of_names() -> None:
    assert parse("restore", "--restore-det").restore_detached is True
    with pytest.raises(UsageError, match=r"ambiguous.*--leave-running, --leave-stopped"):
        parse("dump", "--leave")


def test_a_whole_name_wins_over_longer_ones() -> None:
    assert parse("dump", "--external", "file[1:2]").external == ("file[1:2]",)
    assert parse("page-server", "--tls").tls is True


def test_no_takes_back() -> None:
    assert parse("restore", "-d", "--no-restore-detached").restore_detached is False
    assert parse("dump", "--no-checksums").checksums is False
    assert parse("dump").checksums is True
    assert parse("dump", "--no-track-mem").notes == []
    assert parse("dump", "--track-mem", "--no-track-mem").notes == []


def test_the_last_of_running_and_stopped_wins() -> None:
    args = parse("dump", "-R", "-s")
    assert (args.leave_running, args.leave_stopped) == (False, True)
    args = parse("dump", "-s", "-R")
    assert (args.leave_running, args.leave_stopped) == (True, False)


def test_repeated_options_are_all_kept() -> None:
    args = parse("dump", "--external", "file[1:2]", "--external=tty[3:4]")
    assert args.external == ("file[1:2]", "tty[3:4]")


def test_two_dashes_end_the_options() -> None:
    args = parse("restore", "--exec-cmd", "--", "sh", "-c", "true")
    assert args.operands == ("sh", "-c", "true")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["dump", "--bogus"], "--bogus: unknown option"),
        (["dump", "--"[:2] + "=x"], "unknown option"),
        (["dump", "-y"], "-y: unknown option"),
        (["dump", "-t"], "-t: needs an argument"),
        (["dump", "--tree"], "--tree: needs an argument"),
        (["dump", "--shell-job=yes"], "--shell-job: takes no argument"),
        (["dump", "--no-shell-job=yes"], "--no-shell-job: takes no argument"),
        (["dump", "--no-tree"], "unknown option"),
        (["dump", "-t", "0"], "--tree: can't be '0': a pid is"),
        (["dump", "-t", "-5"], "--tree: can't be '-5'"),
        (["dump", "-t", "1x"], "--tree: can't be '1x'"),
        (["dump", "-t", "٣"], "--tree: can't be"),
        (["dump", "-vx"], "--verbosity: can't be 'x'"),
        (["dump", "--timeout", "soon"], "--timeout: can't be 'soon'"),
        (["dump", "--timeout=-1"], "--timeout: can't be '-1'"),
        (["dump", "--timeout=nan"], "--timeout: can't be 'nan'"),
        (["dump", "--external", "x"], "the form is KIND"),
        (["dump", "--external", "veth[a]:b"], "network namespaces are not supported yet"),
        (["dump", "--external", "cat[a]"], "a kind is one of file, tty"),
        (["restore", "--inherit-fd", "3"], "the form is fd"),
        (["restore", "--inherit-fd", "fd[99999]:x"], "descriptor 99999 is not open here"),
        (["dump", "--cpu-cap=sse"], "a capability is one of"),
        (["dump", "--ghost-limit", "much"], "a size is"),
    ],
)
def test_wrong_words(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse(*words)
    assert message in str(error.value)
    assert error.value.exit_code == 2


def test_all_refused_options_are_named_at_once() -> None:
    with pytest.raises(UsageError) as error:
        parse("dump", "--root=/", "--stream")
    assert "--root: " in str(error.value)
    assert "--stream: " in str(error.value)


def test_modes_of_cgroups() -> None:
    assert parse("dump").manage_cgroups == "soft"
    assert parse("dump", "--manage-cgroups").manage_cgroups == "soft"
    assert parse("restore", "--manage-cgroups=full").manage_cgroups == "full"
    with pytest.raises(UsageError, match="a mode is one of"):
        parse("dump", "--manage-cgroups=hard")
    roots = parse("dump", "--cgroup-root", "/a", "--cgroup-root", "name=x:/b/").cgroup_root
    assert [(root.controller, root.path) for root in roots] == [(None, "/a"), ("name=x", "/b")]
    for wrong in ("a", "cpu:a", "/a/../b", ""):
        with pytest.raises(UsageError, match="the form is"):
            parse("dump", "--cgroup-root", wrong)


def test_what_is_accepted_without_effect_is_noted() -> None:
    (note,) = parse("dump", "--allow-uprobes").notes
    assert note.startswith("--allow-uprobes has no effect: ")


def test_options_of_other_verbs_are_noted() -> None:
    assert parse("restore", "-R").notes == ["--leave-running has no effect on restore"]
    with pytest.raises(AttributeError, match="leave_running"):
        _ = parse("restore", "-R").leave_running


@pytest.mark.parametrize(
    ("text", "caps"),
    [
        ("cpu", {"fpu", "ins", "cpu"}),
        ("", {"fpu", "ins", "cpu"}),
        ("none", set()),
        ("none,cpu", {"cpu"}),
        ("^ins", {"fpu"}),
        ("^all", set()),
        ("all,^fpu", {"ins", "cpu"}),
        ("^none", {"fpu", "ins", "cpu"}),
    ],
)
def test_cpu_cap(text: str, caps: set[str]) -> None:
    words = [f"--cpu-cap={text}"] if text else ["--cpu-cap"]
    assert parse("dump", *words).cpu_cap == caps


WORDS = st.one_of(
    st.sampled_from([f"--{o.name}" for o in OPTIONS] + [f"-{o.short}" for o in OPTIONS if o.short]),
    st.text(string.printable, max_size=8),
    st.builds("--{}={}".format, st.sampled_from([o.name for o in OPTIONS]), st.text(max_size=5)),
)


@given(st.lists(WORDS, max_size=6))
def test_any_words_give_options_or_a_usage_error(words: list[str]) -> None:
    try:
        given_options, operands = scan(words)
        args = settle("dump", given_options, operands)
    except UsageError as error:
        assert str(error)
    else:
        assert all(o.key in args.values for o in OPTIONS if "dump" in o.verbs)


MOVES = ("migrate", "serve")
RUN = ("dump", "pre-dump", "restore", "check", "page-server", "track", "snapshot", *MOVES)


def _words_for(option: Option) -> list[str]:
    samples = {
        "PID": "1",
        "SECONDS": "5",
        "RESOURCE": "file[1:2]",
        "FD:RESOURCE": "fd[0]:x",
        "LIST": "fpu",
        "N": "3",
        "FD": "9",
        "SIZE": "1M",
        "INODES": "4711,4712",
        "PORT": "4711",
        "HOST:PORT": "[::1]:4711",
        "MS": "50",
        "PERCENT": "50",
        "[CTRL:]DIR": "/a",
        "YAML": '"cpu":\n - "strategy": "merge"\n - "properties": ["cpu.idle"]\n',
        "MODE": "async",
        "METHOD": "nftables",
        "TIME": "5s",
        "NS:PID|FILE": "net:1",
        "N|TIME": "-5m",
    }
    own = {
        "file-validation": "buildid",
        "live": "wp",
        "mode": "precopy",
        "live-catch": "always",
        "live-memory": "4M",
        "pre-dump-mode": "read",
        "manage-cgroups": "full",
        "cgroup-props-file": os.devnull,
    }
    if option.name in own:
        return [f"--{option.name}={own[option.name]}"]
    if not option.arg:
        return [f"--{option.name}"]
    return [f"--{option.name}={samples.get(option.arg, 'x')}"]


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: o.name)
def test_every_option_does_what_its_status_says(option: Option) -> None:
    verb = next((v for v in option.verbs if v in RUN), "dump")
    words = [verb, *_words_for(option)]
    if option.status is Status.REFUSED:
        with pytest.raises(UsageError, match=f"--{option.name}: "):
            parse(*words)
        return
    args = parse(*words)
    if option.status is Status.ACCEPTED:
        assert len(args.notes) == 1
        assert args.values[option.key] == option.default
    else:
        assert args.notes == []
        assert args.values[option.key] != option.default
