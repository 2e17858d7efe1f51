"""What docs/browser.md says of servers: its code runs, its configuration of Triton is that of the file.

The C++ needs the headers of ONNX Runtime, which are in no wheel: ``ORT_HEADERS`` names their folder, such as
``usr/include/onnxruntime`` of Debian 13's package ``libonnxruntime-dev``. The library is the one of the wheel.
``TRITON_PYTHON`` names the Python of an environment with ``nvidia-pytriton`` and ``onnxruntime``.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from ferlightning.weights import find_weights
from tests.export.test_web_browser import RUNTIME_DIR

NODE = shutil.which("node")
COMPILER = shutil.which("c++")
HEADERS = os.environ.get("ORT_HEADERS")
TRITON = os.environ.get("TRITON_PYTHON")


def block(beginning: str) -> str:
    """The first block of code in the document that begins so."""
    text = (Path(__file__).parents[2] / "docs/browser.md").read_text()
    return re.search(rf"```\w*\n({re.escape(beginning)}.*?)```", text, re.DOTALL)[1]


def session() -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(find_weights("ferl-small.onnx"), providers=["CPUExecutionProvider"])


@pytest.mark.skipif(NODE is None, reason="no node on this machine")
@pytest.mark.skipif(
    not (RUNTIME_DIR.parent / "onnxruntime-common").is_dir(), reason="onnxruntime-web is not installed for node"
)
def test_javascript_gives_the_probabilities_of_python(tmp_path: Path) -> None:
    (tmp_path / "node_modules").symlink_to(RUNTIME_DIR.parent.resolve())
    (tmp_path / "small.onnx").write_bytes(find_weights("ferl-small.onnx").read_bytes())
    (tmp_path / "a.mjs").write_text(block("import * as ort"))
    done = subprocess.run([NODE, "a.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = session().run(["probabilities"], {"image": np.full((1, 1, 48, 48), 128, np.uint8)})[0][0]
    np.testing.assert_allclose(json.loads(done.stdout), expected, atol=1e-4)


@pytest.mark.skipif(not (COMPILER and HEADERS), reason="no C++ compiler, or ORT_HEADERS does not name a folder")
def test_cpp_gives_the_probabilities_of_python(tmp_path: Path) -> None:
    (library,) = Path(onnxruntime.__file__).with_name("capi").glob("libonnxruntime.so.*")
    (tmp_path / "small.onnx").write_bytes(find_weights("ferl-small.onnx").read_bytes())
    (tmp_path / "face.cpp").write_text(block("#include"))
    (tmp_path / "libonnxruntime.so.1").symlink_to(library)  # the name by which programs look for it
    built = [COMPILER, "-std=c++17", f"-I{HEADERS}", "face.cpp", "libonnxruntime.so.1", "-Wl,-rpath,$ORIGIN", "-oface"]
    subprocess.run(built, cwd=tmp_path, check=True)
    done = subprocess.run(["./face"], cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = session().run(["probabilities"], {"image": np.zeros((1, 1, 48, 48), np.uint8)})[0][0]
    np.testing.assert_allclose([float(line) for line in done.stdout.split()], expected, atol=6e-4)  # three decimals


@pytest.mark.skipif(not TRITON, reason="TRITON_PYTHON does not name a Python with nvidia-pytriton")
def test_triton_gives_the_probabilities_of_python(tmp_path: Path) -> None:
    (tmp_path / "small.onnx").write_bytes(find_weights("ferl-small.onnx").read_bytes())
    client = re.sub("(?m)^face = .*", "face = np.load('faces.npy')", block("import numpy as np\nimport tritonclient"))
    wait = "from pytriton.client import ModelClient\nModelClient('localhost', 'ferl-small').wait_for_model(60)\n"
    ask = [TRITON, "-c", wait + client.replace("print(", "np.save('answer.npy', ")]
    with subprocess.Popen([TRITON, "-c", block("import numpy as np\nimport onnxruntime")], cwd=tmp_path) as server:
        try:
            for n in (1, 7, 64):
                faces = np.random.default_rng(n).integers(0, 256, (n, 1, 48, 48), np.uint8)
                np.save(tmp_path / "faces.npy", faces)
                subprocess.run(ask, cwd=tmp_path, check=True, timeout=120)
                expected = session().run(["probabilities"], {"image": faces})[0]
                np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), expected, atol=1e-5)
        finally:
            server.terminate()


def test_the_configuration_of_triton_is_that_of_the_file() -> None:
    said = block("platform:")
    (image,), (probabilities, *_) = session().get_inputs(), session().get_outputs()
    kinds = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
    for word, there in (("input", image), ("output", probabilities)):
        dims = ", ".join(map(str, there.shape[1:]))  # Triton's leave the batch out
        assert f'{word} {{ name: "{there.name}" data_type: {kinds[there.type]} dims: [{dims}] }}' in said
