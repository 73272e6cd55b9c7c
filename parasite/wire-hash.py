"""Print the first 8 bytes of the SHA-256 of wire.h as a C integer."""

import hashlib
import sys
from pathlib import Path

digest = hashlib.sha256(Path(sys.argv[1]).read_bytes()).digest()
print(f"0x{int.from_bytes(digest[:8], 'little'):016x}", end="")
