"""Compile the message files into the Python package ckpt.images.pb.

usage: compile.py SOURCE_DIR OUT_DIR FILE.proto ...

Files import one another as "ckpt/images/pb/NAME.proto", so that the generated modules import one
another inside that package; protoc is told that this folder is SOURCE_DIR.
"""

import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PACKAGE = "ckpt/images/pb"


def main(source_dir: str, out_dir: str, *files: str) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        code = protoc.main(
            ["protoc", f"--proto_path={PACKAGE}={source_dir}"]
            + [f"--python_out={scratch}", f"--pyi_out={scratch}"]
            + [f"{PACKAGE}/{Path(name).name}" for name in files]
        )
        for made in Path(scratch, PACKAGE).glob("*_pb2.py*"):
            shutil.copy(made, out_dir)
    return int(code)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
