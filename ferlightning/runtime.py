"""ONNX Runtime, which is imported when the first file is opened, and the checksum of the files that we write for it."""

import hashlib
import re
from pathlib import Path
from typing import Any

from ferlightning.errors import FerlError

SEAL = "ferlightning.sha256"
"""Key of the metadata under which a file of ours has its checksum: its SHA-256 with ``UNSEALED`` in that place."""
UNSEALED = "0" * 64
STORED = re.compile(rb"(?<=ferlightning\.sha256\x12@)[0-9a-f]{64}")  # protobuf tells a value by 0x12 and its length


def checksum(file: bytes) -> str:
    """The checksum of an ONNX file that has one, and of one that is to get it."""
    return hashlib.sha256(STORED.sub(UNSEALED.encode(), file)).hexdigest()


def seal(path: Path) -> None:
    """Put the checksum of an ONNX file into its metadata, which have ``SEAL`` already."""
    file = path.read_bytes()
    path.write_bytes(STORED.sub(checksum(file).encode(), file))


def open_session(path: Path, threads: int) -> Any:
    """An ONNX file ready to run on the CPU.

    Args:
        path: of the file.
        threads: how many one run may use.

    Raises:
        FerlError: ONNX Runtime is missing, or the file is none that it reads, or not as it was written.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise FerlError("recognising faces needs ONNX Runtime: pip install onnxruntime") from None
    _check(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that wait must not burn a core, and pictures of many sizes must not leave an arena for each.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own kinds have no common base
        raise FerlError(f"{path}: ONNX Runtime cannot open this file: {error}") from None


def _check(path: Path) -> None:
    """Refuse a file that has changed since it was sealed: ONNX Runtime would compute with whatever weights it finds."""
    file = path.read_bytes() if path.is_file() else b""
    stored = STORED.search(file)
    if stored and stored[0] != checksum(file).encode():
        raise FerlError(f"{path} is damaged: its checksum is another one. Copy it again, or export it again")
