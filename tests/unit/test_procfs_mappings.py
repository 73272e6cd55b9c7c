"""maps and smaps: the forms that the kernel writes, and what is refused."""

from __future__ import annotations

import mmap
import os
import time

import pytest

from ckpt.procfs.maps import Mapping, parse_maps
from ckpt.procfs.parse import ProcfsError
from ckpt.procfs.reader import ProcDir
from ckpt.procfs.smaps import parse_smaps

MAPS = b"""\
00400000-00452000 r-xp 00000000 fe:01 173521                             /usr/bin/a b
00651000-00652000 rw-s 00051000 00:2a 7                                  /dev/shm/x (deleted)
00652000-00653000 rw-p 00000000 00:00 0{blank}
7ffd0000-7ffd2000 ---p 00000000 00:00 0                                  [anon:two words]
7ffe0000-7ffe1000 rw-p 123456789000 103:00 18446744073709551615          /a\\012b
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]
""".replace(b"{blank}", b" ")  # the kernel ends a line without a path so


def block(
    header: str, rss: str = "       8", flags: str = "rd wr mr mw me ac ", more: str = ""
) -> str:
    return (
        f"{header}\nSize:                  8 kB\nRss:            {rss} kB\n"
        f"{more}THPeligible:           1\nVmFlags: {flags}\n"
    )


def test_maps_reads_every_form() -> None:
    maps = parse_maps(MAPS)
    assert maps[0] == Mapping(0x400000, 0x452000, "r-xp", 0, (0xFE, 1), 173521, "/usr/bin/a b")
    assert maps[0].dev == os.makedev(0xFE, 1)
    assert (maps[0].readable, maps[0].writable, maps[0].executable) == (True, False, True)
    assert maps[1].shared
    assert maps[1].deleted
    assert maps[1].file_path == "/dev/shm/x"
    assert maps[2].path == ""
    assert not maps[2].has_file
    assert maps[3].special
    assert maps[3].path == "[anon:two words]"
    assert maps[4].pgoff == 0x123456789000
    assert maps[4].device == (0x103, 0)
    assert maps[4].ino == 2**64 - 1
    assert maps[4].path == "/a\nb"
    assert maps[5].end == 0xFFFFFFFFFF601000
    assert len(maps[0].range) == 0x52000


def test_maps_of_nothing_is_empty() -> None:
    assert parse_maps(b"") == []
    assert parse_smaps(b"") == []


def test_maps_keeps_bytes_that_are_no_utf8() -> None:
    (mapping,) = parse_maps(b"1000-2000 r--p 00000000 fe:00 9 /\xff\xfe\n")
    assert os.fsencode(mapping.path) == b"/\xff\xfe"


@pytest.mark.parametrize(
    "line",
    [
        b"1000-2000 r--p 00000000 fe:00 9 /x",
        b"2000-2000 r--p 00000000 fe:00 9 /x\n",
        b"3000-2000 r--p 00000000 fe:00 9 /x\n",
        b"1000-2000 r--q 00000000 fe:00 9 /x\n",
        b"1000-2000 r--p 00000000 fe00 9 /x\n",
        b"1000-2000 r--p 00000000 fe:00 0x9 /x\n",
        b"11112222333344445-2000 r--p 00000000 fe:00 9 /x\n",
        "1000-2000 r--p 00000000 fe:00 \u0663 /x\n".encode(),
        b"\n",
        b"\0" * 100,
    ],
)
def test_maps_refuses_other_forms(line: bytes) -> None:
    with pytest.raises(ProcfsError) as error:
        parse_maps(b"0-1000 r--p 00000000 fe:00 9 /x\n" + line)
    assert "/proc maps" in str(error.value)


def test_maps_of_a_running_target_may_overlap() -> None:
    """A later line begins below the end of the one before, as Linux 6.18 shows it: its rest counts,
    and its place in the file moves along."""
    text = (
        b"1000-5000 rw-p 00000000 00:00 0 \n"
        b"3000-7000 r--p 00010000 fe:01 9 /x\n"
        b"6000-7000 r--p 00013000 fe:01 9 /x\n"
        b"8000-9000 r--p 00000000 fe:01 9 /x\n"
    )
    maps = parse_maps(text, running=True)
    assert [(m.start, m.end, m.pgoff) for m in maps] == [
        (0x1000, 0x5000, 0),
        (0x5000, 0x7000, 0x12000),
        (0x8000, 0x9000, 0),
    ]
    with pytest.raises(ProcfsError, match="not above"):
        parse_maps(text)
    with pytest.raises(ProcfsError, match="not above"):
        parse_maps(b"3000-2000 r--p 00000000 fe:00 9 /x\n", running=True)
    assert parse_maps(MAPS, running=True) == parse_maps(MAPS)


def test_maps_refuses_overlap() -> None:
    with pytest.raises(ProcfsError, match="not above"):
        parse_maps(MAPS + b"1000-2000 r--p 00000000 fe:00 9 /x\n")


def test_smaps_reads_flags_and_sizes() -> None:
    first, second = parse_smaps(
        (
            block("1000-3000 rw-p 00000000 fe:00 9 /x")
            + block("3000-5000 rw-p 00000000 00:00 0 ", flags="rd uw lo ")
        ).encode()
    )
    assert first.mapping.path == "/x"
    assert first.flags == frozenset(("rd", "wr", "mr", "mw", "me", "ac"))
    assert not first.userfaultfd
    assert second.userfaultfd
    assert second.sizes() == {"Size": 8192, "Rss": 8192, "THPeligible": 1}
    assert second.size("Rss") == 8192
    assert second.size("Swap") == 0
    assert (second.start, second.end) == (0x3000, 0x5000)


def test_smaps_of_a_task_that_runs() -> None:
    """What was mapped while it was read: as in maps, no place is told of twice."""
    text = "".join(
        block(f"{line} fe:00 9 /x")
        for line in (
            "1000-5000 r--p 00000000",
            "3000-7000 r--p 00010000",
            "4000-6000 r--p 00000000",
            "8000-9000 r--p 00000000",
        )
    ).encode()
    found = parse_smaps(text, running=True)
    assert [(s.start, s.end, s.mapping.pgoff) for s in found] == [
        (0x1000, 0x5000, 0),
        (0x5000, 0x7000, 0x12000),
        (0x8000, 0x9000, 0),
    ]
    with pytest.raises(ProcfsError, match="not above"):
        parse_smaps(text)


@pytest.mark.parametrize("rss", ["       8", "123456789012"])
def test_smaps_with_blocks_of_other_length(rss: str) -> None:
    """A number wider than its column, and a line that only some mappings have."""
    text = (
        block("1000-3000 rw-p 00000000 fe:00 9 /x")
        + block("3000-5000 rw-p 00000000 00:00 0 ", rss=rss)
        + block("5000-7000 rw-p 00000000 00:00 0 ", more="ProtectionKey:         0\n")
    )
    found = parse_smaps(text.encode())
    assert [s.start for s in found] == [0x1000, 0x3000, 0x5000]
    assert found[1].size("Rss") == int(rss) << 10


def test_smaps_never_swallows_a_mapping() -> None:
    """The second block is as long as two small ones: none of these may be lost in it."""
    small = "Size:                  8 kB\n"
    one = f"1000-3000 rw-p 00000000 00:00 0 \n{small}VmFlags: rd \n"
    two = f"3000-5000 rw-p 00000000 00:00 0 \n{small}VmFlags: rd \n"
    long = "5000-7000 rw-p 00000000 00:00 0 \n" + small * 4 + "VmFlags: rd \n"
    assert len(parse_smaps((long + one.replace("1000-3000", "8000-9000")).encode())) == 2
    assert len(parse_smaps((one + two + long).encode())) == 3


@pytest.mark.parametrize(
    "text",
    [
        "1000-3000 rw-p 00000000 00:00 0 \n",
        "1000-3000 rw-p 00000000 00:00 0 \nSize:   8 kB\n",
        block("1000-3000 rw-p 00000000 00:00 0 ") + "junk\n",
        "junk\n" + block("1000-3000 rw-p 00000000 00:00 0 "),
        block("1000-3000 rw-p 00000000 00:00 0 ") + "VmFlags: rd \n",
        block("1000-3000 rw-p 00000000 00:00 0 ")[:-1],
        block("1000-3000 rw-p 00000000 00:00 0 ") * 2,
        "1000-3000 rw-p 00000000 00:00 0 \n" + block("3000-4000 rw-p 00000000 00:00 0 "),
    ],
)
def test_smaps_refuses_other_forms(text: str) -> None:
    with pytest.raises(ProcfsError):
        parse_smaps(text.encode())


def test_our_own_mappings() -> None:
    with mmap.mmap(-1, 3 * mmap.PAGESIZE) as area, ProcDir(os.getpid()) as proc:
        area[0] = 1
        smaps = parse_smaps(proc.read("smaps"))
        starts = {s.start for s in smaps}
        maps = parse_maps(proc.read("maps"))
    assert any(m.path == "[stack]" for m in maps)
    assert len(starts & {m.start for m in maps}) > len(maps) // 2
    assert all(s.flags for s in smaps)
    assert any(s.mapping.path.startswith("/dev/zero") and s.size("Rss") == 4096 for s in smaps)


def test_five_thousand_mappings_take_milliseconds() -> None:
    """No assertion on the clock can be exact here: 200 us each is a hundred times what it takes.
    A quadratic parser takes more than that."""
    text = "".join(block(f"{n:x}000-{n:x}800 rw-p 00000000 00:00 0 ") for n in range(1, 5001))
    before = time.process_time()
    assert len(parse_smaps(text.encode())) == 5000
    assert time.process_time() - before < 1
