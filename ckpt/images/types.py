"""Which images there are: file name, magic, messages, framing and what follows a message.

A name is a stem, and for most images a number: `core-123`. The file is the name with `.img`, but
for the service files (`stats-dump`). CRIU writes the number of a ghost file or TCP stream in
hexadecimal; names here are always as the file is spelled. Facts: pycriu/images/magic.py of CRIU;
ckpt-images(5) describes each file.

Nothing here imports a generated module before a message class is asked for.
"""

from __future__ import annotations

import enum
from functools import cache
from typing import TYPE_CHECKING

from ckpt.errors import ImageError
from ckpt.record import record

if TYPE_CHECKING:
    from google.protobuf.message import Message

COMMON_MAGIC = 0x54564319
SERVICE_MAGIC = 0x55105940
IMG_VERSION = 2

INVENTORY = "inventory"
CHECKSUMS = "ckpt-checksums"
PAGES_CHECKSUMS = "ckpt-checksums-pages"
PARENT_ID = "ckpt-parent"
PUNCHED = "ckpt-punched"
WORKING_SET = "ckpt-working-set"
PARENT_LINK = "parent"
PAGEMAPS = ("pagemap", "pagemap-shmem")
"""Stems of the images that tell of pages."""


class Framing(enum.Enum):
    """What stands before the first message."""

    INVENTORY = "the type's magic alone"
    ORDINARY = "the common magic, then the type's"
    SERVICE = "the service magic, then the type's"
    RAW = "nothing: the file is raw pages"


class Payload(enum.Enum):
    """What stands behind a message; ckpt.images.payload knows how long it is."""

    NONE = "nothing"
    BYTES = "as many bytes as the field `bytes` says"
    LENGTH = "as many bytes as the field `length` says"
    TCP_QUEUES = "inq_len and outq_len bytes"
    GHOST = "all that is left, or with chunks `len` bytes after each chunk"
    SHM = "a segment, padded to 4 bytes, unless it is in a pagemap"
    SEM = "16 bit values, padded to 8 bytes"
    MSG = "qnum messages, each a sized ipc_msg and its text padded to 8 bytes"


@record(frozen=True)
class ImageType:
    """One kind of image.

    `entry`: type of its messages, `head`: that of the first if it differs. `numbered`: the digits
    of its numbers, empty if a set has one such image. `single`: it holds one message.
    """

    stem: str
    magic: int
    entry: str
    head: str = ""
    framing: Framing = Framing.ORDINARY
    payload: Payload = Payload.NONE
    numbered: str = ""
    single: bool = False
    suffix: str = ".img"

    @property
    def is_ours(self) -> bool:
        """Whether CRIU does not know it: its absence must not stop a restore."""
        return self.stem.startswith("ckpt-")

    def message(self, index: int) -> type[Message]:
        """The class of message number `index` (from 0)."""
        return message_class(self.head if index == 0 and self.head else self.entry)


@cache
def message_class(ref: str) -> type[Message]:
    """The generated class that `ref` ("core.core_entry") names. Imports its module."""
    import importlib

    module, name = ref.split(".")
    pb = importlib.import_module(f"ckpt.images.pb.{module}_pb2")
    found: type[Message] = getattr(pb, name)
    return found


def import_messages() -> None:
    """Import the modules of all images, so that this is done when somebody waits."""
    for image_type in _TYPES:
        for ref in filter(None, (image_type.entry, image_type.head)):
            message_class(ref)


_DEC = "0123456789"
_HEX = "0123456789abcdef"

_TYPES = (
    ImageType(
        "inventory", 0x58313116, "inventory.inventory_entry", framing=Framing.INVENTORY, single=True
    ),
    ImageType("pstree", 0x50273030, "pstree.pstree_entry"),
    ImageType("ids", 0x54432030, "core.task_kobj_ids_entry", numbered=_DEC, single=True),
    ImageType("core", 0x55053847, "core.core_entry", numbered=_DEC, single=True),
    ImageType("fs", 0x51403912, "fs.fs_entry", numbered=_DEC, single=True),
    ImageType("mm", 0x57492820, "mm.mm_entry", numbered=_DEC, single=True),
    ImageType("fdinfo", 0x56213732, "fdinfo.fdinfo_entry", numbered=_DEC),
    ImageType("files", 0x56303138, "fdinfo.file_entry"),
    ImageType(
        "pagemap", 0x56084025, "pagemap.pagemap_entry", "pagemap.pagemap_head", numbered=_DEC
    ),
    ImageType(
        "pagemap-shmem", 0x56084025, "pagemap.pagemap_entry", "pagemap.pagemap_head", numbered=_DEC
    ),
    ImageType("pages", 0, "", framing=Framing.RAW, numbered=_DEC),
    ImageType("pipes-data", 0x56453709, "pipe_data.pipe_data_entry", payload=Payload.BYTES),
    ImageType("fifo-data", 0x59333054, "pipe_data.pipe_data_entry", payload=Payload.BYTES),
    ImageType("tty-info", 0x59453036, "tty.tty_info_entry"),
    ImageType("tty-data", 0x59413026, "tty.tty_data_entry"),
    ImageType("memfd", 0x48453499, "memfd.memfd_inode_entry"),
    ImageType("filelocks", 0x54323616, "file_lock.file_lock_entry"),
    ImageType("remap-fpath", 0x59133954, "remap_file_path.remap_file_path_entry"),
    ImageType(
        "ghost-file",
        0x52583605,
        "ghost_file.ghost_chunk_entry",
        "ghost_file.ghost_file_entry",
        payload=Payload.GHOST,
        numbered=_HEX,
    ),
    ImageType("seccomp", 0x64413049, "seccomp.seccomp_entry", single=True),
    ImageType("cgroup", 0x59383330, "cgroup.cgroup_entry", single=True),
    ImageType("timens", 0x43114433, "timens.timens_entry", numbered=_DEC, single=True),
    ImageType("utsns", 0x54473203, "utsns.utsns_entry", numbered=_DEC, single=True),
    ImageType("pidns", 0x61157326, "pidns.pidns_entry", numbered=_DEC, single=True),
    ImageType("userns", 0x55474906, "userns.userns_entry", numbered=_DEC, single=True),
    ImageType("mountpoints", 0x55563928, "mnt.mnt_entry", numbered=_DEC),
    ImageType("ipcns-var", 0x53115007, "ipc_var.ipc_var_entry", numbered=_DEC, single=True),
    ImageType("ipcns-shm", 0x46283044, "ipc_shm.ipc_shm_entry", payload=Payload.SHM, numbered=_DEC),
    ImageType("ipcns-sem", 0x59573019, "ipc_sem.ipc_sem_entry", payload=Payload.SEM, numbered=_DEC),
    ImageType("ipcns-msg", 0x55453737, "ipc_msg.ipc_msg_entry", payload=Payload.MSG, numbered=_DEC),
    ImageType("sk-queues", 0x56264026, "sk_packet.sk_packet_entry", payload=Payload.LENGTH),
    ImageType(
        "tcp-stream",
        0x51465506,
        "tcp_stream.tcp_stream_entry",
        payload=Payload.TCP_QUEUES,
        numbered=_HEX,
        single=True,
    ),
    ImageType("cpuinfo", 0x61404013, "cpuinfo.cpuinfo_entry", single=True),
    ImageType(
        "stats-dump",
        0x57093306,
        "stats.stats_entry",
        framing=Framing.SERVICE,
        suffix="",
        single=True,
    ),
    ImageType(
        "stats-restore",
        0x57093306,
        "stats.stats_entry",
        framing=Framing.SERVICE,
        suffix="",
        single=True,
    ),
    ImageType(CHECKSUMS, 0x434B5853, "ckpt_checksums.ckpt_checksums_entry", single=True),
    ImageType(PUNCHED, 0x434B5055, "ckpt_punched.ckpt_punched_entry", single=True),
    ImageType(PAGES_CHECKSUMS, 0x434B5850, "ckpt_checksums.ckpt_checksums_entry", single=True),
    ImageType(PARENT_ID, 0x434B5052, "ckpt_parent.ckpt_parent_entry", single=True),
    ImageType(WORKING_SET, 0x434B5753, "ckpt_working_set.ckpt_working_set_entry"),
    ImageType(
        "ckpt-thread", 0x434B5448, "ckpt_thread.ckpt_thread_entry", numbered=_DEC, single=True
    ),
    ImageType("ckpt-epoll", 0x434B5045, "ckpt_epoll.ckpt_epoll_entry"),
    ImageType("ckpt-fanotify", 0x434B5041, "ckpt_fanotify.ckpt_fanotify_entry"),
    ImageType("ckpt-inet", 0x434B494E, "ckpt_inet.ckpt_inet_entry"),
    ImageType("ckpt-netlink", 0x434B4E4C, "ckpt_sock.ckpt_sock_entry"),
    ImageType("ckpt-packet", 0x434B504B, "ckpt_sock.ckpt_sock_entry"),
    ImageType("ckpt-packet-ring", 0x434B5252, "ckpt_packet_ring.ckpt_packet_ring_entry"),
    ImageType("ckpt-packet-kept", 0x434B524B, "ckpt_packet_ring.ckpt_packet_kept_entry"),
    ImageType("ckpt-pidfd", 0x434B5049, "ckpt_pidfd.ckpt_pidfd_entry"),
    ImageType("ckpt-timerfd", 0x434B5446, "ckpt_timerfd.ckpt_timerfd_entry"),
    ImageType("ckpt-pipe", 0x434B5050, "ckpt_pipe.ckpt_pipe_entry"),
    ImageType("ckpt-fifo", 0x434B4646, "ckpt_pipe.ckpt_pipe_entry"),
    ImageType("ckpt-shmem", 0x434B534D, "ckpt_shmem.ckpt_shmem_entry"),
    ImageType("ckpt-sysv", 0x434B5356, "ckpt_sysv.ckpt_sysv_entry", single=True),
    ImageType("ckpt-tty", 0x434B5454, "ckpt_tty.ckpt_tty_entry"),
    ImageType("ckpt-uring", 0x434B5552, "ckpt_uring.ckpt_uring_entry"),
    ImageType("ckpt-unix", 0x434B5558, "ckpt_unix.ckpt_unix_entry"),
)

TYPES = {image_type.stem: image_type for image_type in _TYPES}


@record(frozen=True)
class ImageName:
    """A name taken apart. `number` is None for an image that a set holds once."""

    type: ImageType
    number: int | None

    @property
    def file(self) -> str:
        return file_name(self.type.stem, self.number)


def image_name(stem: str, number: int | None = None) -> str:
    """The name of an image: ("core", 7) is "core-7". Numbers of ghost files become hexadecimal."""
    image_type = TYPES[stem]
    if bool(image_type.numbered) != (number is not None):
        raise ImageError(f"an image {stem!r} has {'a' if image_type.numbered else 'no'} number")
    if number is None:
        return stem
    return f"{stem}-{number:x}" if image_type.numbered == _HEX else f"{stem}-{number}"


def file_name(stem: str, number: int | None = None) -> str:
    """The file that holds an image: ("core", 7) is "core-7.img"."""
    return image_name(stem, number) + TYPES[stem].suffix


def parse_name(name: str) -> ImageName:
    """Take a name apart. Raises ImageError if no image has such a name."""
    if name in TYPES and not TYPES[name].numbered:
        return ImageName(TYPES[name], None)
    stem, dash, number = name.rpartition("-")
    image_type = TYPES.get(stem)
    if dash and image_type and _is_number(number, image_type.numbered):
        return ImageName(image_type, int(number, len(image_type.numbered)))
    raise ImageError("no image has such a name", resource=repr(name))


def _is_number(text: str, digits: str) -> bool:
    """Hexadecimal ones may begin with zeros, as names of ghost files do."""
    if not text or text.strip(digits):
        return False
    return digits == _HEX or text == "0" or text[0] != "0"


def parse_file_name(file: str) -> ImageName | None:
    """As parse_name, for a file's name; None if the file is none of a set's."""
    for suffix in (".img", ""):
        if file.endswith(suffix):
            try:
                name = parse_name(file.removesuffix(suffix))
            except ImageError:
                continue
            if name.type.suffix == suffix:
                return name
    return None
