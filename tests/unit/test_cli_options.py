"""The registry of options against CRIU, the README, the help, the man pages and the options of the
orchestrators."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ckpt.cli import help as help_texts
from ckpt.cli.option import Option, Status
from ckpt.cli.options import OPTIONS
from ckpt.cli.verbs import NOT_YET, VERBS, Verb
from ckpt.dump.options import DumpOptions
from ckpt.record import names
from ckpt.restore.options import RestoreOptions
from tests.requirements import require

ROOT = Path(__file__).resolve().parents[2]
NAMES = {option.name for option in OPTIONS}

# What the command line deals with itself; all else must be a field of the orchestrator's options.
OF_THE_COMMAND_LINE = {
    "help",
    "version",
    "log_file",
    "log_level",
    "config",
    "no_default_config",
    "close",
    "json",
    "display_stats",
    "exec_cmd",
    "exit_status",
    "at",
    "pre_rounds",
    "max_downtime",
    "lazy",
    "lazy_pages",
    "status_fd",
    "insecure",
}
# Options of a dump that the command line of a restore deals with itself, too.
OF_THE_COMMAND_LINE_OF_A_RESTORE = {"track_mem"}
RENAMED = {"timeout": "timeout_s", "manage_cgroups": "cgroups"}
# What becomes the fields `page_server` and `tls`, see ckpt.cli.connection.
OF_A_CONNECTION = {
    *("address", "port", "ps_socket"),
    *("tls_cacert", "tls_cacrl", "tls_cert", "tls_key", "tls_no_cn_verify"),
}

# What becomes the field `cgroups` too, see ckpt.cli.cgroups.
OF_CGROUPS = {
    *("cgroup_root", "cgroup_props", "cgroup_props_file", "cgroup_dump_controller", "cgroup_yard"),
}

# In CRIU 4.2, not in Debian's 3.17, whose --help is asked below.
SINCE_3_17 = {"unprivileged", "allow-uprobes", "ghost-fiemap", "skip-file-rwx-check"}
# Options that CRIU takes but does not show in its help.
NOT_IN_CRIUS_HELP = {
    "close",
    "deprecated",
    "enable-external-masters",
    "enable-external-sharing",
    "ext-mount-map",
    "ext-unix-sk",
    "ms",
    "veth-pair",
}


def test_names_and_letters_are_unique() -> None:
    assert len(NAMES) == len(OPTIONS)
    letters = [option.short for option in OPTIONS if option.short]
    assert len(letters) == len(set(letters))


@pytest.mark.parametrize("option", OPTIONS, ids=lambda o: o.name)
def test_reasons_stand_where_they_belong(option: Option) -> None:
    assert bool(option.why) == (option.status is not Status.IMPLEMENTED)
    assert option.text


def test_every_option_of_criu_is_known() -> None:
    require(shutil.which("criu"), "criu is not installed")
    text = subprocess.run(["criu", "--help"], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"--([a-z][a-z-]+[a-z])", text)) - {"no"}
    shown = {name for name in names if name not in ("no-display-stats", "no-")}
    assert len(shown) > 70
    assert shown <= NAMES
    crius = {option.name for option in OPTIONS if option.criu}
    assert crius - shown == SINCE_3_17 | NOT_IN_CRIUS_HELP


def test_letters_are_crius() -> None:
    require(shutil.which("criu"), "criu is not installed")
    text = subprocess.run(["criu", "--help"], capture_output=True, text=True, check=True).stdout
    letters = dict(re.findall(r"-([a-zA-Z])\|--([a-z-]+)", text)) | {"v": "verbosity"}
    # CRIU gives -d to --daemon as well.
    assert letters.pop("d") in ("restore-detached", "daemon")
    ours = {option.short: option.name for option in OPTIONS}
    assert {letter: ours.get(letter) for letter in letters} == letters


@pytest.mark.parametrize(
    ("verb", "options"), [("dump", DumpOptions), ("restore", RestoreOptions)], ids=str
)
def test_what_is_implemented_reaches_the_orchestrator(verb: str, options: type) -> None:
    implemented = {
        RENAMED.get(option.key, option.key)
        for option in OPTIONS
        if verb in option.verbs and option.status is Status.IMPLEMENTED
    }
    if verb == "restore":
        implemented -= OF_THE_COMMAND_LINE_OF_A_RESTORE
    fields = set(names(options))
    fields -= {"lazy_pages"}  # a field of the dump's, of a restore the command line's
    assert implemented - OF_THE_COMMAND_LINE - OF_A_CONNECTION - OF_CGROUPS == fields


def test_the_readme_has_the_table() -> None:
    readme = (ROOT / "README.md").read_text()
    assert help_texts.option_table() in readme, "run scripts/option-table"


@pytest.mark.parametrize("verb", VERBS.values(), ids=lambda v: v.name)
def test_help_of_a_verb(verb: Verb) -> None:
    text = help_texts.of_verb(verb)
    assert f"examples:\n  ckpt {verb.name}" in text
    assert max(map(len, text.splitlines())) <= 80
    for option in OPTIONS:
        if verb.name in option.verbs:
            assert f"--{option.name}" in text


def test_help_names_every_verb() -> None:
    text = help_texts.overview()
    for name in [*VERBS, *NOT_YET]:
        assert name in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("verb", VERBS)
def test_man_page_of_a_verb(verb: str) -> None:
    page = (ROOT / f"man/ckpt-{verb}.1").read_text().replace("\\-", "-")
    assert ".Sh EXAMPLES" in page
    for option in OPTIONS:
        common = set(VERBS) <= set(option.verbs)
        if verb in option.verbs and option.status is Status.IMPLEMENTED and not common:
            assert re.search(rf"^\.It (Fl \w , )?Fl Fl {option.name}\b", page, re.MULTILINE), (
                option.name
            )


def test_man_pages_are_installed() -> None:
    installed = (ROOT / "man/meson.build").read_text()
    for page in (ROOT / "man").glob("*.[1-9]"):
        assert f"'{page.name}'," in installed
