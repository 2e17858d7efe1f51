"""The page of ``ferl data inspect --report``: faces by class, class balance, sizes, and what an audit finds."""

import base64
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ferlightning.data.audit.checks import audit
from ferlightning.data.inspection import Source, rows_of, train_on
from ferlightning.data.store import UNLABELLED, Store
from ferlightning.errors import FerlError
from ferlightning.files import replacing

FACES = 10  # of a class
SIDE = 72  # pixels of a face on the page


def write_page(path: Path, sources: list[tuple[Source, dict[str, Any]]]) -> None:
    """Write the page; it needs no other file.

    Args:
        path: of the page, which may replace one.
        sources: each with what ``describe`` found.

    Raises:
        FerlError: the page cannot be written.
    """
    from jinja2 import Environment, PackageLoader  # late: few commands need it

    environment = Environment(loader=PackageLoader("ferlightning", "data"), autoescape=True, trim_blocks=True)
    sections = [_section(source, found) for source, found in sources]
    page = environment.get_template("page.html.j2").render(sections=sections)
    try:
        with replacing(path) as temporary:
            temporary.write_text(page, encoding="utf-8")
    except OSError as error:
        raise FerlError(f"{path}: cannot write the page: {error.strerror or error}") from error


def _section(source: Source, found: dict[str, Any]) -> dict[str, Any]:
    data = source.default()
    store, splits, counts = data.raw, list(found["classes"]), rows_of(found)
    most = max(max(own) for _, own in counts) or 1
    rng = np.random.default_rng(0)
    rows = []
    for number, (name, own) in enumerate(counts):
        items = np.flatnonzero(data.label == (number if number < len(found["names"]) else UNLABELLED))
        if sum(own):
            shown = rng.permutation(items)[:FACES]
            bars = [100 * n / most for n in own]
            rows.append({"name": name, "counts": own, "bars": bars, "faces": _strip(store, shown)})
    checks = audit(data)["checks"]
    return {
        "title": f"{source.data_set}, {source.layout}: {source.path}",
        "image": found["image"], "subjects": found["subjects"], "splits": splits, "rows": rows,
        "notes": [*found["remarks"]], "advice": found["advice"], "command": train_on(source, found),
        "checks": [{"title": title, **check} for title, check in checks.items()],
        "total": [sum(own) for own in zip(*(own for _, own in counts), strict=True)],
    }  # fmt: skip


def _strip(store: Store, items: Any) -> str:
    """The middle frames of some items side by side, as the content of a PNG in base64."""
    frames = (store.start[items] + store.start[items + 1]) // 2
    faces = [cv2.resize(store.images[n], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for n in frames.tolist()]
    strip = np.concatenate(faces, 1)
    strip = strip[..., ::-1] if strip.ndim == 3 else strip  # OpenCV writes BGR
    return base64.b64encode(cv2.imencode(".png", strip)[1].tobytes()).decode()
