"""ONNX Runtime, which is imported when the first file is opened."""

from pathlib import Path
from typing import Any

from ferlightning.errors import FerlError


def open_session(path: Path, threads: int) -> Any:
    """An ONNX file ready to run on the CPU.

    Args:
        path: of the file.
        threads: how many one run may use.

    Raises:
        FerlError: ONNX Runtime is missing, or the file is none that it reads.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise FerlError("recognising faces needs ONNX Runtime: pip install onnxruntime") from None
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
