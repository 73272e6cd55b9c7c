"""Pages of a set that were given back to the file system (`ckpt dedup`), and the record of them.

ckpt-punched.img is written before the first page is freed. From then on the pages that it names are
no pages any more, whether they are freed already or not: nothing is restored from them, and sums
are made as if zeros stood there. So a crash between the two changes nothing, a set that lost pages
is never restored with zeros in their place, and rot in what is left is found as before. If the
record itself is lost, the sums of ckpt-checksums.img, which stay as they are, don't fit any more.
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING, Any

from ckpt.errors import ImageError
from ckpt.images import directory as files_of
from ckpt.images import framing
from ckpt.images.spans import common, total
from ckpt.images.types import PUNCHED, TYPES, message_class, parse_file_name, parse_name
from ckpt.record import field, record, replace
from ckpt.units import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckpt.images.checksums import FileSum
    from ckpt.images.spans import Spans

_MAX_PAGES = 1 << 51


@record
class PunchedFile:
    """What one pages-N.img has lost, in bytes, and the new sums of blocks by their index."""

    file: str
    spans: Spans
    sums: dict[int, int] = field(default_factory=dict)


@record
class Punched:
    """The record of a set, by file. `newest`: run id of the set for which pages went last."""

    files: dict[str, PunchedFile] = field(default_factory=dict)
    newest: str = ""

    def spans(self, file: str) -> Spans:
        """What `file` has lost, in bytes."""
        return self.files[file].spans if file in self.files else []

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(total(one.spans) for one in self.files.values())

    def applied_to(self, wanted: FileSum) -> FileSum:
        """What the file must look like now."""
        if wanted.file not in self.files:
            return wanted
        one = self.files[wanted.file]
        sums = tuple(one.sums.get(index, value) for index, value in enumerate(wanted.sums))
        return replace(wanted, sums=sums, punched=tuple(one.spans))

    def refuse(self, file: str, used: Spans, where: str) -> None:
        """Raises ImageError if one of the bytes `used` of `file` is lost."""
        if lost := common(self.spans(file), used):
            raise ImageError(
                f"has lost {total(lost) // PAGE} pages that are needed",
                resource=where,
                why="they were freed (ckpt dedup, --auto-dedup) because a newer set has others",
                hint=f"restore the set that builds on this one, dump {self.newest}"
                if self.newest
                else "restore the newest set of the chain",
            )


def write_punched(dir_lfd: int, punched: Punched, where: str) -> None:
    """Write the record, in place of an older one, durable when this returns."""
    file = parse_name(PUNCHED).file
    data = framing.encode(PUNCHED, [_to_message(punched)])
    files_of.replace(dir_lfd, file, data, where)


def from_message(message: Any, where: str) -> Punched:
    """The record. Raises ImageError if it is damaged."""
    found = Punched(newest=message.newest)
    if _sum(message.files, message.newest) != message.sum:
        raise _damaged(where, "its sum is wrong")
    for one in message.files:
        image = parse_file_name(one.name)
        if image is None or image.type.stem != "pages" or one.name in found.files:
            raise _damaged(where, f"it lists {one.name!r}")
        if len(one.starts) != len(one.counts) or len(one.blocks) != len(one.sums):
            raise _damaged(where, f"{one.name}: numbers are missing")
        spans: Spans = []
        for start, count in zip(one.starts, one.counts, strict=True):
            if (spans and start * PAGE <= spans[-1][1]) or not 0 < count <= _MAX_PAGES - start:
                raise _damaged(where, f"{one.name}: {count} pages from page {start}")
            spans.append((start * PAGE, (start + count) * PAGE))
        sums = dict(zip(one.blocks, one.sums, strict=True))
        found.files[one.name] = PunchedFile(one.name, spans, sums)
    return found


def _to_message(punched: Punched) -> Any:
    import ckpt.images.pb.ckpt_punched_pb2 as pb

    files = [
        pb.punched_file(
            name=one.file,
            starts=[start // PAGE for start, _ in one.spans],
            counts=[(end - start) // PAGE for start, end in one.spans],
            blocks=sorted(one.sums),
            sums=[one.sums[block] for block in sorted(one.sums)],
        )
        for _, one in sorted(punched.files.items())
    ]
    message: Any = message_class(TYPES[PUNCHED].entry)
    return message(sum=_sum(files, punched.newest), files=files, newest=punched.newest or None)


def _sum(files: Iterable[Any], newest: str) -> int:
    import xxhash

    state = xxhash.xxh3_64(os.fsencode(newest) + b"\0")
    for one in files:
        state.update(os.fsencode(one.name) + b"\0")
        for numbers in (one.starts, one.counts, one.blocks, one.sums):
            state.update(struct.pack(f"<{len(numbers)}Q", *numbers))
    return state.intdigest()


def _damaged(where: str, why: str) -> ImageError:
    return ImageError("is damaged", resource=where, why=why)
