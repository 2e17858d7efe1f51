"""Trained weights by name: those inside the package, and larger ones that are fetched once."""

import hashlib
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from urllib.parse import urlsplit

from ferlightning.errors import FerlError
from ferlightning.files import at_home, cache_dir


@dataclass(frozen=True)
class Weights:
    """A file of trained weights.

    Attributes:
        file: its name.
        url: where it is fetched from; empty if it is inside the package.
        sha256: of its bytes.
        mirror: where else it is fetched from.
    """

    file: str
    url: str = ""
    sha256: str = ""
    mirror: str = ""


RELEASE = "https://github.com/ferlightning/ferlightning/releases/download/weights-1"
CLONE = Path(__file__).parents[2] / "weights"
"""Where a clone of the repository has the larger files."""
REGISTRY = {
    "ferl-small": Weights("ferl-small.safetensors"),
    "ferl-small.onnx": Weights("ferl-small.onnx"),
    "ferl-nano": Weights("ferl-nano.safetensors"),
    "ferl-nano.onnx": Weights("ferl-nano.onnx"),
    "ferl-best": Weights(
        "ferl-best.safetensors",
        f"{RELEASE}/ferl-best.safetensors",
        "10a383c5824a8fd17b81d073f18ceb01c9213cb4dcd92af67846f87939e2a77f",
    ),
}
"""All weights that have a name. One that ends in ``.onnx`` is the network as a file that runs without torch."""
YUNET = Weights(
    "face_detection_yunet_2026may.onnx",
    "https://huggingface.co/opencv/face_detection_yunet/resolve/main/face_detection_yunet_2026may.onnx",
    "ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
    "https://media.githubusercontent.com/media/opencv/opencv_zoo/main/models/face_detection_yunet/"
    "face_detection_yunet_2026may.onnx",
)
"""The face detector YuNet of OpenCV's zoo, under the MIT licence: 230 kB."""


def find_weights(source: str | Path) -> Path:
    """The file behind a name of ours or of the Hugging Face Hub, or the path itself.

    A file that is not inside the package is looked for in the clone that this is part of, in the folder
    ``$FERL_WEIGHTS``, then in the cache (``$FERL_CACHE``, else ``~/.cache/ferlightning``). If it is in none, it is
    fetched into the cache: from its address, or from a mirror if ``$FERL_WEIGHTS`` is a URL.

    Args:
        source: a path, a name such as ``ferl-small``, or ``hf:USER/REPOSITORY/FILE`` for a file on the Hub.

    Raises:
        FerlError: it cannot be fetched, or is not the file that it should be.
    """
    name = str(source)
    if name.startswith("hf:"):
        return _from_hub(name)
    if name not in REGISTRY or Path(source).exists():
        return Path(source)
    return find_file(REGISTRY[name], name)


def find_file(entry: Weights, name: str) -> Path:
    """The file of an entry, from the places that ``find_weights`` names."""
    packaged = Path(__file__).parent / entry.file
    if packaged.is_file():
        return packaged
    if (CLONE / entry.file).is_file():
        return _checked(CLONE / entry.file, entry)
    place = os.environ.get("FERL_WEIGHTS", "")
    if place and "://" not in place and (given := at_home(place) / entry.file).is_file():
        return _checked(given, entry)
    cached = cache_dir() / "weights" / entry.file
    if not cached.is_file():
        urls = [f"{place.rstrip('/')}/{entry.file}"] if "://" in place else [entry.url, entry.mirror]
        _fetch([url for url in urls if url], cached, entry, name)
    return _checked(cached, entry)


def meant_weights(name: str) -> str:
    """End of a message about a name that is neither a file nor one of ours: the close names."""
    names = [known for known in REGISTRY if not known.endswith(".onnx")]
    close = get_close_matches(name, names)
    return f"; did you mean {' or '.join(close)}?" if close else f"; weights by name: {', '.join(names)}"


def _fetch(urls: list[str], path: Path, entry: Weights, name: str) -> None:
    """Fetch a file from the first address that has it; what a broken connection left is gone on with."""
    part = path.with_name(f"{path.name}.part")
    failures = []
    for url in urls:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _alone(path.parent):
                if path.is_file():
                    return
                _download(url, part)
                found = hashlib.sha256(part.read_bytes()).hexdigest()
                if found == entry.sha256:
                    part.replace(path)
                    return
                part.unlink()
        except OSError as error:
            failures.append(f"cannot fetch {url}: {error}")
        else:
            failures.append(f"{url} is not the file that it should be (its SHA-256 is {found})")
    place = os.environ.get("FERL_WEIGHTS", "")
    now = f", which now is {place}, without it" if place and "://" not in place else ""
    raise FerlError(f"{name}: {'; '.join(failures)}. Put {path.name} into the folder that FERL_WEIGHTS names{now}")


def _alone(folder: Path) -> AbstractContextManager[object]:
    """Keep others from fetching into a folder meanwhile: the processes of a training start at the same time."""
    try:
        from filelock import FileLock  # late: most commands fetch nothing
    except ModuleNotFoundError:  # the recogniser alone needs no more than NumPy, OpenCV and ONNX Runtime
        return nullcontext()
    return FileLock(f"{folder}.lock")


def _download(url: str, part: Path) -> None:
    import urllib.request  # late: most commands fetch nothing
    from urllib.error import HTTPError

    there = part.stat().st_size if part.exists() else 0
    asked = urllib.request.Request(url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        answer = urllib.request.urlopen(asked, timeout=10)
    except HTTPError as error:
        if error.code == 416:  # nothing is left to fetch
            return
        raise
    with answer, part.open("ab" if answer.status == 206 else "wb") as file:
        expected = int(answer.headers.get("Content-Length") or 0)
        before = file.tell()
        shutil.copyfileobj(answer, file)
        if expected and file.tell() - before < expected:
            raise OSError(f"broken off after {file.tell()} bytes; try again to go on from there")


def _checked(path: Path, entry: Weights) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != entry.sha256:
        raise FerlError(f"{path} is not the file that it should be (its SHA-256 is {found}): delete it and try again")
    return path


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    parts = name.removeprefix("hf:").split("/", 2)
    if len(parts) < 3:
        raise FerlError(f"{name} is no file on the Hub: write hf:USER/REPOSITORY/FILE")
    try:
        with offline_if_unreachable():
            return Path(hf_hub_download("/".join(parts[:2]), parts[2]))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise FerlError(f"{name} cannot be fetched: {error}") from error


def connect(address: str, seconds: float) -> None:
    """Open a connection to the host of an address, and close it.

    Raises:
        OSError: it takes none within this time.
    """
    url = urlsplit(address)
    port = url.port or (443 if url.scheme == "https" else 80)
    socket.create_connection((url.hostname or "", port), seconds).close()


@contextmanager
def offline_if_unreachable() -> Iterator[None]:
    """Let the Hub's client look at what it has kept alone, if the Hub takes no connection: it tries for 23 seconds."""
    import urllib.request

    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    if not before and urlsplit(constants.ENDPOINT).scheme not in urllib.request.getproxies():
        try:
            connect(constants.ENDPOINT, 5)
        except OSError:
            constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
