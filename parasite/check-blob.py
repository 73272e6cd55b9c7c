"""Turn the linked blob into its flat image, or fail: no relocation, no undefined symbol, no
writable or oversized section may be in it.

usage: check-blob.py BLOB.elf BLOB.bin
"""

import sys
from pathlib import Path

from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection
from elftools.elf.sections import SymbolTableSection

BLOB_MAX = 65536
SHF_WRITE, SHF_ALLOC = 1, 2


def defects(elf: ELFFile) -> list[str]:
    found = []
    for section in elf.iter_sections():
        if isinstance(section, RelocationSection) and section.num_relocations():
            found.append(f"{section.name}: {section.num_relocations()} relocations")
        if isinstance(section, SymbolTableSection):
            found += [
                f"undefined symbol {symbol.name}"
                for symbol in section.iter_symbols()
                if symbol.name and symbol["st_shndx"] == "SHN_UNDEF"
            ]
        if section["sh_flags"] & SHF_ALLOC and section["sh_size"]:
            if section["sh_flags"] & SHF_WRITE:
                found.append(f"{section.name} is writable")
            if section.name != ".blob":
                found.append(f"{section.name} is outside the blob")
    if elf.get_section_by_name(".blob")["sh_size"] > BLOB_MAX:
        found.append(f"larger than {BLOB_MAX} bytes")
    return found


def main(source: str, target: str) -> int:
    with Path(source).open("rb") as stream:
        elf = ELFFile(stream)
        found = defects(elf)
        if found:
            print(f"{source}: " + "; ".join(found), file=sys.stderr)
            return 1
        Path(target).write_bytes(elf.get_section_by_name(".blob").data())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
