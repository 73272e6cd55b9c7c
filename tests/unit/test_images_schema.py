"""Our messages are CRIU's: every number, type, label and default against Debian's descriptors.

Debian has 3.17; what 4.2 adds stands in ADDED, with the reason, and what we leave out in LEFT_OUT.
The images ckpt-* are our own and not compared.
"""

from __future__ import annotations

import importlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import ckpt.images.pb
from ckpt.images.types import TYPES, Framing
from tests.requirements import require

ADDED = {
    # 4.x: who made the set, which plugins took part; uprobes; compression comes after 4.2.
    "inventory_entry": {"plugins_entry", "dump_criu_run_id", "allow_uprobes", "compress"},
    # 4.0: which signal stopped it, membarrier(2).
    "task_core_entry": {"stop_signo", "membarrier_registration_mask"},
    # 3.18: threads in cgroups of their own.
    "thread_core_entry": {"cg_set"},
    "cg_controller_entry": {"is_threaded"},
    # 4.0: shadow stacks.
    "user_x86_xsave_entry": {"cet"},
    # 4.0 and 4.1.
    "creds_entry": {"no_new_privs", "cap_amb"},
    "file_entry": {"pidfd"},
    "memfd_inode_entry": {"mode"},
    "ip_opts_entry": {"pktinfo", "tos", "ttl"},
    # After 3.17: who sent a message to a socket with SO_PASSCRED.
    "sk_packet_entry": {"ucred"},
    # 4.2: a count of 64 bits; the old one has a new name. Compression comes after 4.2.
    "pagemap_entry": {"nr_pages", "compat_nr_pages", "blocks"},
}
ADDED_MESSAGES = {"plugins_entry", "user_x86_cet_entry", "pidfd_entry", "sk_ucred_entry"}
ADDED_VALUES = {"fd_types": {"PIDFD"}, "march": {"LOONGARCH64", "RISCV64"}}
LEFT_OUT = {
    # Other processors: a folder in parasite/ brings its fields.
    "core_entry": {"ti_arm", "ti_aarch64", "ti_ppc64", "ti_s390", "ti_mips"},
    # Renamed by 4.2; see test_the_old_page_count.
    "pagemap_entry": {"nr_pages"},
}


@pytest.fixture(scope="module")
def criu() -> Any:
    script = Path(__file__).parent.parent / "support" / "pycriu_fields.py"
    done = subprocess.run(
        ["/usr/bin/python3", script], capture_output=True, text=True, timeout=60, check=False
    )
    require(done.returncode == 0, "Debian's criu with pycriu is not installed")
    return json.loads(done.stdout)


def ours() -> tuple[dict[str, Any], dict[str, Any]]:
    messages: dict[str, Any] = {}
    enums: dict[str, Any] = {}
    for path in Path(next(iter(ckpt.images.pb.__path__))).glob("*_pb2.py"):
        if path.stem.startswith("ckpt_"):
            continue
        file = importlib.import_module(f"ckpt.images.pb.{path.stem}").DESCRIPTOR
        assert file.package == "ckpt.images"
        messages |= file.message_types_by_name
        enums |= file.enum_types_by_name
        for message in file.message_types_by_name.values():
            enums |= message.enum_types_by_name
    return messages, enums


def label(field: Any) -> int:
    return 3 if field.is_repeated else 2 if field.is_required else 1


def kind(field: Any) -> Any:
    if field.message_type is not None:
        return field.message_type.name
    return field.enum_type.name if field.enum_type is not None else field.type


def test_fields_are_the_same(criu: Any) -> None:
    messages, _ = ours()
    differences: list[tuple[Any, ...]] = []
    for name, message in messages.items():
        if name in ADDED_MESSAGES:
            continue
        theirs = criu["messages"][name]
        for field in message.fields:
            if field.name in ADDED.get(name, set()):
                continue
            default = field.default_value if field.has_default_value else None
            mine = [field.number, kind(field), label(field), default]
            if theirs.get(field.name) != mine:
                differences.append((name, field.name, mine, theirs.get(field.name)))
        missing = theirs.keys() - {field.name for field in message.fields}
        differences += [(name, field) for field in missing - LEFT_OUT.get(name, set())]
    assert not differences


def test_numbers_of_what_was_added_are_free(criu: Any) -> None:
    messages, _ = ours()
    for name, fields in ADDED.items():
        taken = {number for number, *_ in criu["messages"][name].values()}
        for field in fields - {"compat_nr_pages"}:
            assert messages[name].fields_by_name[field].number not in taken, (name, field)


def test_the_old_page_count(criu: Any) -> None:
    messages, _ = ours()
    field = messages["pagemap_entry"].fields_by_name["compat_nr_pages"]
    assert [field.number, kind(field), label(field), None] == (
        criu["messages"]["pagemap_entry"]["nr_pages"]
    )


def test_enums_are_the_same(criu: Any) -> None:
    _, enums = ours()
    for name, enum in enums.items():
        added = ADDED_VALUES.get(name, set())
        mine = {value.name: value.number for value in enum.values if value.name not in added}
        assert mine == criu["enums"][name], name


def test_no_exception_is_stale() -> None:
    messages, enums = ours()
    for name, fields in ADDED.items():
        assert fields <= set(messages[name].fields_by_name), name
    for name, values in ADDED_VALUES.items():
        assert values <= set(enums[name].values_by_name), name
    assert messages.keys() >= ADDED_MESSAGES


def test_magics_are_criu_s() -> None:
    done = subprocess.run(
        ["/usr/bin/python3", "-c", "from pycriu.images.magic import by_val; print(list(by_val))"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    require(done.returncode == 0, "Debian's criu with pycriu is not installed")
    known = set(json.loads(done.stdout))
    for image_type in TYPES.values():
        if image_type.framing is not Framing.RAW:
            assert (image_type.magic in known) != image_type.is_ours
