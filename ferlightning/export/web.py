"""A page that recognises faces in the browser: a folder of files, which any server gives out."""

import base64
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from ferlightning.checkpoint import HEADER
from ferlightning.deploy import anonymise, job, recognizer, tracking
from ferlightning.errors import FerlError
from ferlightning.files import at_home, cache_dir, replacing
from ferlightning.images.detectors import DETECTORS, yunet
from ferlightning.runtime import open_session
from ferlightning.weights import YUNET, find_file

OURS = Path(__file__).parent / "web"
RUNTIME = "onnxruntime-web@1.30.0"
INTEGRITY = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""SHA-512 of its package, as the npm registry tells it."""
RUNTIME_FILES = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")

PageDetector = Literal["yunet", "none"]


def write_page(
    model: Path, folder: Path, name: str, detector: PageDetector, detector_path: str | None, ort_dir: str | None
) -> None:
    """Write a page around an exported model.

    Args:
        model: what ``ferl export`` wrote.
        folder: appears whole; one that this function wrote before is replaced.
        name: what the model is called on the page.
        detector: which finds the faces; ``none`` where a picture is a face.
        detector_path: YuNet's file; None to find or fetch it.
        ort_dir: the package onnxruntime-web, unpacked; None to fetch it by npm, once.

    Raises:
        FerlError: a file is missing, or the page cannot do what the model needs.
    """
    if detector_path and detector != "yunet":
        raise FerlError(f"detector-path: only yunet takes a file, not {detector}")
    known = _known(model)
    files = {path.name: path.read_bytes() for path in sorted(OURS.iterdir()) if path.is_file()}
    files |= _runtime(ort_dir) | {"model.onnx": model.read_bytes()}
    found = DETECTORS[detector]
    known["detector"] = {"crop": found.crop, "min_score": found.min_score, "file": ""}
    if detector == "yunet":
        path = at_home(detector_path) if detector_path else _yunet_file()
        yunet.YuNet(path=path)  # or it is none
        files["yunet.onnx"] = path.read_bytes()
        known["detector"]["file"] = "yunet.onnx"
    files["licences.txt"] = _licences(detector)
    known["constants"] = constants()
    known |= {"name": name, "page": 1, "files": sorted([*files, "model.json"])}
    files["model.json"] = json.dumps(known, indent=1).encode()
    digest = hashlib.sha256(b"".join(files[file] for file in sorted(files))).hexdigest()[:16]
    kept = json.dumps(["./", *(file for file in known["files"] if file != "sw.js")])
    files["sw.js"] = files["sw.js"].replace(b"@VERSION@", digest.encode()).replace(b"@FILES@", kept.encode())
    with replacing(folder) as temporary:
        temporary.mkdir()
        for file, content in files.items():
            (temporary / file).write_bytes(content)


def constants() -> dict[str, float]:
    """The numbers by which ``ferl recognize`` works, for the page to work by the same."""
    modules = (anonymise, job, recognizer, tracking, yunet)
    named = [item for module in modules for item in vars(module).items()]
    return {name: value for name, value in named if name.isupper() and isinstance(value, int | float)}


def refuse_folder(folder: Path) -> None:
    """Refuse to replace anything but a page of ours, which says so in its model.json and has no other files.

    Raises:
        FerlError: there is something else.
    """
    if not folder.exists() and not folder.is_symlink():
        return
    try:
        known = json.loads((folder / "model.json").read_text())
        foreign = {path.name for path in folder.iterdir()} - set(known["files"]) if "page" in known else {""}
    except (OSError, ValueError, KeyError, TypeError):
        foreign = {""}
    if foreign:
        named = f" ({', '.join(sorted(foreign))})" if foreign != {""} else ""
        raise FerlError(
            f"out: {folder} is there, and is not a page that `ferl export` wrote, or has other files{named}: give "
            "the name of a new folder, or remove it"
        )


def _known(model: Path) -> dict[str, Any]:
    """What the metadata of an exported model say.

    Raises:
        FerlError: it has none, or its images are prepared by what the page has not.
    """
    stored = open_session(model, threads=1).get_modelmeta().custom_metadata_map.get(HEADER)
    if stored is None:
        raise FerlError(f"{model} does not tell its classes: write it by `ferl export`")
    known: dict[str, Any] = json.loads(stored)
    if parts := [part["class_path"].rpartition(".")[2] for part in known["input"].get("preprocess", [])]:
        raise FerlError(f"{model}: its images are prepared by {', '.join(parts)}, which the page cannot do")
    return known


def _yunet_file() -> Path:
    try:
        return find_file(YUNET, "yunet")
    except FerlError as error:
        raise FerlError(f"{error}; or give it by --detector-path=FILE") from None


def _runtime(ort_dir: str | None) -> dict[str, bytes]:
    """The files of ONNX Runtime for browsers, by name."""
    cache = cache_dir() / RUNTIME.replace("@", "-")
    folder = at_home(ort_dir) if ort_dir else cache
    if (folder / "dist").is_dir():
        folder = folder / "dist"
    if not ort_dir and not folder.is_dir():
        with replacing(folder) as temporary:
            temporary.mkdir(parents=True)
            for name, content in _unpacked(_packed()).items():
                (temporary / name).write_bytes(content)
    try:
        return {name: (folder / name).read_bytes() for name in RUNTIME_FILES}
    except OSError as error:
        raise FerlError(
            f"ort-dir: {error.filename} cannot be read: give the folder of the npm package {RUNTIME}, unpacked"
        ) from None


def _packed() -> bytes:
    """The npm package, fetched by npm."""
    instead = f"Unpack the npm package {RUNTIME} and give its folder: --ort-dir=FOLDER"
    npm = shutil.which("npm")
    if npm is None:
        raise FerlError(f"the page needs {RUNTIME}, and there is no npm here to fetch it. {instead}")
    with TemporaryDirectory() as folder:
        done = subprocess.run([npm, "pack", RUNTIME], cwd=folder, capture_output=True, text=True)
        packages = [*Path(folder).glob("*.tgz")]
        if done.returncode or not packages:
            why = next((line for line in done.stderr.splitlines() if "error" in line.lower()), "it says nothing")
            raise FerlError(f"npm cannot fetch {RUNTIME}: {why}. {instead}")
        return packages[0].read_bytes()


def _unpacked(package: bytes) -> dict[str, bytes]:
    if base64.b64encode(hashlib.sha512(package).digest()).decode() != INTEGRITY:
        raise FerlError(f"npm gave another {RUNTIME} than the one that was published: its SHA-512 differs")
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        read = {name: archive.extractfile(f"package/dist/{name}") for name in RUNTIME_FILES}
        return {name: file.read() for name, file in read.items() if file is not None}


def _licences(detector: PageDetector) -> bytes:
    """Of what is in the page and not ours; the Python package of ONNX Runtime carries the texts."""
    import onnxruntime

    place = Path(onnxruntime.__file__).parent
    mit = (place / "LICENSE").read_text(encoding="utf-8")
    texts = [f"ONNX Runtime Web (ort*): {mit}"]
    if detector == "yunet":
        texts += [f"YuNet (yunet.onnx): {mit.replace('Microsoft Corporation', '2020 Shiqi Yu <shiqi.yu@gmail.com>')}"]
    texts += ["The page itself, ferlightning: Apache License 2.0, https://www.apache.org/licenses/LICENSE-2.0\n"]
    texts += [(place / "ThirdPartyNotices.txt").read_text(encoding="utf-8", errors="replace")]
    return f"\n{'-' * 80}\n\n".join(texts).encode()
