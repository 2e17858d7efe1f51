"""The audit against double loops, on copies made here of drawn faces, and on the figures known of real data."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ferlightning.cli.main import main
from ferlightning.data import CKPlus
from ferlightning.data.audit import copies
from ferlightning.data.audit.checks import audit
from ferlightning.data.audit.copies import (
    AUGMENTED,
    CORRELATION,
    DISTANCE,
    STRAIGHT,
    copy_groups,
    descriptors_of,
    near_copies,
)
from ferlightning.data.audit.report import write_audit
from ferlightning.data.datamodule import FaceData
from ferlightning.data.sources.synthetic.datamodule import draw_faces
from ferlightning.data.store import Store
from ferlightning.errors import FerlError

Images = NDArray[np.uint8]
REAL = Path(os.environ["FERL_REAL_DATA"]) if "FERL_REAL_DATA" in os.environ else None
EXPRESSIONS = ["anger", "disgust", "happiness", "surprise"]


class _Made(FaceData):
    """A data set made of a store."""

    label_names = ["a", "b", "c"]

    def __init__(self, made: Store) -> None:
        super().__init__()
        self.made = made

    def read(self) -> Store:
        return self.made


def made(
    images: Images | list[Images], split: Iterable[int], label: Iterable[int] | None = None, **facts: Any
) -> _Made:
    """A data set of the given images; all of class 0 unless said otherwise."""
    split = np.array(list(split), np.int8)
    label = np.zeros(len(split), np.int64) if label is None else np.array(list(label), np.int64)
    names = np.array([f"item {i}" for i in range(len(split))])
    facts = {key: np.array(value) for key, value in facts.items()}
    return _Made(Store.of(np.array(images), label, split, names, **facts))


def checks(data: FaceData) -> dict[str, Any]:
    return audit(data)["checks"]


def faces(n: int, seed: int = 0, size: int = 48) -> Images:
    """(n, size, size), of as many different people with one expression."""
    people = max(n, 3)  # needed for a drawn data set
    return draw_faces(["happiness"], items_per_class=people, subjects=people, seed=seed, size=size).images[:n]


def turned(image: Images, degrees: float) -> Images:
    middle = (len(image) - 1) / 2
    return cv2.warpAffine(image, cv2.getRotationMatrix2D((middle, middle), degrees, 1), image.shape[::-1])


def jpeg(image: Images, quality: int) -> Images:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def noisy(image: Images, spread: float) -> Images:
    noise = np.random.default_rng(0).normal(0, spread, image.shape)
    return (image + noise).round().clip(0, 255).astype(np.uint8)


def one_pixel(image: Images) -> Images:
    changed = image.copy()
    changed[20, 20] ^= 1
    return changed


# --- copies of images -----------------------------------------------------------------------------------------------


def test_groups_are_what_links_make_of_them() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        n = int(rng.integers(1, 12))
        owner, content = rng.integers(0, n, 14), rng.integers(0, 12, 14)
        joined = [{i} for i in range(n)]
        for i, j in zip(*np.nonzero(content[:, None] == content), strict=True):
            one, other = (next(group for group in joined if owner[k] in group) for k in (i, j))
            if one is not other:
                joined.remove(other)
                one |= other
        found = copy_groups(owner, content, n)
        assert sorted(map(sorted, joined)) == sorted(np.flatnonzero(found == g).tolist() for g in np.unique(found))


def test_hash_and_detail_are_what_they_are_said_to_be() -> None:
    """Written out: means of 2 x 2 pixels; the signs of the lowest 64 cosines against their median; less a blur."""
    images = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (64, 64, 4), np.uint8), (0, 0), 3)
    images = np.ascontiguousarray(images.transpose(2, 0, 1))
    found = descriptors_of(images, np.array([3, 0, 2]))
    cosines = np.cos(np.pi * np.arange(8)[:, None] * (2 * np.arange(32) + 1) / 64)
    for image, code, detail in zip(images[[3, 0, 2]], found.code, found.detail, strict=True):
        mean = (image.astype(np.float32).reshape(32, 2, 32, 2).sum((1, 3)) + 2) // 4
        low = (cosines @ mean @ cosines.T).ravel()
        expected = low > np.median(low)
        assert np.unpackbits(np.array([code]).view(np.uint8)).astype(bool).tolist() == expected.tolist()
        fine = mean - cv2.GaussianBlur(mean, (17, 17), 2, borderType=cv2.BORDER_REFLECT)
        fine = (fine - fine.mean()) / np.linalg.norm(fine - fine.mean())
        np.testing.assert_allclose(detail, fine.ravel(), atol=2e-4)


@pytest.mark.parametrize("within", [True, False])
def test_pairs_are_those_of_a_comparison_of_all_with_all(within: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "BLOCK", (100, 300))
    monkeypatch.setattr(copies, "FRAMES", 50)
    originals = faces(100)
    rng = np.random.default_rng(0)
    images = np.concatenate([originals, *([noisy(x, s) for x in originals] for s in (2, 15, 25, 35, 45, 60, 80, 100))])
    images = images[rng.permutation(len(images))]  # 900: more than a block in both directions
    a, b = (np.arange(900), np.arange(900)) if within else (np.arange(250), np.arange(250, 900))
    kin = np.arange(900) % 7
    one, other = descriptors_of(images, a), descriptors_of(images, b)
    found = near_copies(one, kin=kin) if within else near_copies(one, other)

    bits_a, bits_b = (np.unpackbits(x.code[:, None].view(np.uint8), axis=1).astype(np.float32) for x in (one, other))
    distance = bits_a @ (1 - bits_b.T) + (1 - bits_a) @ bits_b.T
    correlation = np.corrcoef(one.detail.astype(float), other.detail.astype(float))[: len(a), len(a) :]
    candidates = distance <= DISTANCE
    if within:
        candidates &= (np.arange(900)[:, None] < np.arange(900)) & (kin[:, None] != kin)
    # On the threshold itself, either is right: detail is kept in half precision.
    surely, perhaps = (candidates & (correlation >= CORRELATION + slack) for slack in (1e-3, -1e-3))
    assert surely.sum() > 100 and (candidates & ~perhaps).sum() > 50, "or the test says nothing"
    assert ((distance > DISTANCE) & (correlation > CORRELATION)).any(), "each of the two conditions must matter"
    pairs = set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert len(pairs) == len(found.first)
    assert set(map(tuple, np.argwhere(surely).tolist())) <= pairs <= set(map(tuple, np.argwhere(perhaps).tolist()))
    np.testing.assert_allclose(found.similarity, correlation[found.first, found.second], atol=1e-3)


NEAR = {
    "JPEG": lambda x: jpeg(x, 50),
    "darker": lambda x: (0.6 * x + 5).astype(np.uint8),
    "less contrast": lambda x: (0.5 * x + 90).astype(np.uint8),
    "noise": lambda x: noisy(x, 8),
    "one pixel": one_pixel,
}


@pytest.mark.parametrize("change", NEAR.values(), ids=NEAR)
def test_a_changed_copy_is_a_near_copy(change: Callable[[Images], Images]) -> None:
    images = faces(40)
    found = near_copies(
        descriptors_of(images, np.arange(40)), descriptors_of(np.stack([change(x) for x in images]), np.arange(40))
    )
    assert list(zip(found.first, found.second, strict=True)) == [(i, i) for i in range(40)]


def test_colour_and_size_do_not_matter() -> None:
    grey = faces(20, size=96)
    small = np.stack([cv2.resize(x, (48, 48), interpolation=cv2.INTER_AREA) for x in grey])
    coloured = np.stack([small] * 3, axis=-1)
    found = near_copies(descriptors_of(grey, np.arange(20)), descriptors_of(coloured, np.arange(20)))
    assert list(zip(found.first, found.second, strict=True)) == [(i, i) for i in range(20)]


@pytest.mark.parametrize(("degrees", "mirrored"), [(-11, False), (-4, True), (0, True), (7.5, False), (10, True)])
def test_a_mirrored_or_turned_copy_is_found_by_undoing_it(degrees: float, mirrored: bool) -> None:
    images = faces(20)
    changed = np.stack([turned(x[:, ::-1].copy() if mirrored else x, degrees) for x in images])
    plain = descriptors_of(images, np.arange(20), STRAIGHT)
    undone = []
    for view in AUGMENTED:
        found = near_copies(plain, descriptors_of(changed, np.arange(20), view))
        assert (found.first == found.second).all(), "nobody is taken for another"
        if len(found.first) == 20:
            undone.append(view)
    # What was mirrored and then turned is turned the same way once it is mirrored back.
    wanted = degrees if mirrored else -degrees
    assert undone and all(view.mirrored == mirrored for view in undone)
    assert min(abs(view.degrees - wanted) for view in undone) <= 2.5


def test_different_people_are_not_copies() -> None:
    images = faces(150)
    assert not len(near_copies(descriptors_of(images, np.arange(150))).first)
    plain, middle = descriptors_of(images, np.arange(150)), descriptors_of(images, np.arange(150), STRAIGHT)
    mirrored = descriptors_of(np.ascontiguousarray(images[:, :, ::-1]), np.arange(150))
    assert all(i == j for i, j in zip(*near_copies(plain, mirrored)[:2], strict=True)), "but a face may be symmetric"
    for view in AUGMENTED:
        found = near_copies(middle, descriptors_of(images, np.arange(150), view))
        assert (found.first == found.second).all()


# --- the audit ------------------------------------------------------------------------------------------------------


def test_exact_copies_are_counted_as_by_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    pool = rng.integers(0, 256, (60, 12, 10), np.uint8)
    images, split = pool[rng.integers(0, 60, 150)], rng.integers(0, 3, 150)
    label = rng.integers(0, 3, 150) * (rng.random(150) < 0.3)
    found = checks(made(images, split, label))
    text = [image.tobytes() for image in images]

    for s, name in enumerate(("train", "val", "test")):
        own = [i for i in range(150) if split[i] == s]
        copies: dict[bytes, list[int]] = {}
        for i in own:
            copies.setdefault(text[i], []).append(int(label[i]))
        assert found["exact copies within splits"][name] == {
            "redundant": sum(any(text[i] == text[j] for j in own if j < i) for i in own),
            "groups": sum(len(labels) > 1 for labels in copies.values()),
            "groups_of_different_labels": sum(len(set(labels)) > 1 for labels in copies.values()),
        }
    for a, b, key in ((0, 1, "val in train"), (0, 2, "test in train"), (1, 2, "test in val")):
        of_a, of_b = ([i for i in range(150) if split[i] == s] for s in (a, b))
        copied = [j for j in of_b if any(text[i] == text[j] for i in of_a)]
        differ = [j for j in copied if any(text[i] == text[j] and label[i] != label[j] for i in of_a)]
        shared = {text[j] for j in copied}
        conflicts = [t for t in shared if len({int(label[i]) for i in of_a + of_b if text[i] == t}) > 1]
        assert found["exact copies across splits"][key] == {
            "items": len(copied),
            "items_of_another_label": len(differ),
            "names": [f"item {j}" for j in copied],
            "groups": len(shared),
            "groups_of_different_labels": len(conflicts),
        }
    assert found["exact copies across splits"]["verdict"] == "LEAK"
    assert found["exact copies within splits"]["verdict"] == "note"
    for pair in found["exact copies across splits"]["pairs"]:
        one, other = (int(name.removeprefix("item ")) for name in pair["names"])
        assert text[one] == text[other] and split[one] < split[other]
        assert pair["labels"] == ["abc"[label[one]], "abc"[label[other]]]


def test_each_copy_is_counted_once_in_its_kind() -> None:
    images = faces(12)
    symmetric = ((images[8].astype(int) + images[8][:, ::-1]) // 2).astype(np.uint8)
    held_out = [
        images[0],  # exact, though there is a near copy too
        jpeg(images[1], 60),
        images[2][:, ::-1],
        turned(images[3], 10),
        images[11],
        jpeg(symmetric, 60),  # near, and mirrored too
    ]
    train = [*images[:8], one_pixel(images[0]), jpeg(images[4], 60), symmetric, images[5]]
    found = checks(made([*train, *held_out], [0] * 12 + [1] * 3 + [2] * 3, [0] * 12 + [0, 1, 0] + [0, 0, 2]))
    across = {kind: found[f"{kind} copies across splits"] for kind in ("exact", "near", "augmented")}
    counted = {kind: {key: check[key]["names"] for key in check if " in " in key} for kind, check in across.items()}
    assert counted == {
        "exact": {"val in train": ["item 12"], "test in train": [], "test in val": []},
        "near": {"val in train": ["item 13"], "test in train": ["item 17"], "test in val": []},
        "augmented": {"val in train": ["item 14"], "test in train": ["item 15"], "test in val": []},
    }
    assert across["near"]["val in train"]["items_of_another_label"] == 1
    assert sorted(pair["labels"] for pair in across["near"]["pairs"]) == [["a", "b"], ["a", "c"]]
    mirrored, rotated = across["augmented"]["pairs"]
    assert (mirrored["degrees"], mirrored["mirrored"], mirrored["names"]) == (0, True, ["item 2", "item 14"])
    assert (rotated["degrees"], rotated["mirrored"], rotated["names"]) == (-10, False, ["item 3", "item 15"])
    assert mirrored["similarity"] > 0.999 and mirrored["frames"] == [2, 14]
    assert found["exact copies within splits"]["train"]["redundant"] == 1
    near = found["near copies within splits"]
    assert near["train"] == {"pairs": 2, "items": 4, "pairs_of_different_labels": 0}
    assert near["val"]["pairs"] == near["test"]["pairs"] == 0
    assert {kind: check["verdict"] for kind, check in across.items()} == dict.fromkeys(across, "LEAK")


def test_sound_data_is_ok_throughout() -> None:
    store = draw_faces(EXPRESSIONS, items_per_class=40, subjects=40)
    data = _Made(store)
    data.label_names = EXPRESSIONS
    found = checks(data)
    assert {title for title, check in found.items() if check["verdict"] != "ok"} == {"sequences across splits"}
    assert found["sequences across splits"]["findings"] == ["unknown of all items"]


def test_a_test_split_that_is_validation_is_not_counted_twice() -> None:
    images = faces(4)
    found = audit(made([*images, images[0]], [0, 0, 0, 1, 1]))
    assert found["items"] == {"train": 3, "val": 2}
    assert list(found["checks"]["exact copies across splits"]) == ["verdict", "findings", "val in train", "pairs"]
    assert "no test split" in found["notes"][0]


def test_a_clip_is_a_copy_by_any_of_its_frames() -> None:
    x = faces(12)
    black = np.zeros_like(x[0])
    # train: x0 x1 | x2 x3 | x4 black; val: x5 x1 | x6 x7 x3 | x8 black | black black; test: x9 x10 | x11 x11
    frames = [x[0], x[1], x[2], x[3], x[4], black, x[5], x[1], x[6], x[7], jpeg(x[3], 60), x[8], black, black, black]
    frames += [x[9], x[10], x[11], x[11]]
    start = np.cumsum([0, 2, 2, 2, 2, 3, 2, 2, 2, 2])
    found = checks(made(frames, [0, 0, 0, 1, 1, 1, 1, 2, 2], start=start))
    assert found["exact copies across splits"]["val in train"]["names"] == ["item 3"]
    assert found["near copies across splits"]["val in train"]["names"] == ["item 4"]
    assert [pair["frames"] for pair in found["near copies across splits"]["pairs"]] == [[3, 10]]
    assert [found["exact copies within splits"][split]["redundant"] for split in ("train", "val", "test")] == [0, 0, 0]
    assert found["blank images"]["train"]["names"] == ["item 2"]
    assert found["blank images"]["val"]["names"] == ["item 5", "item 6"]
    assert found["blank images"]["exact_copies"] == 0, "a black frame at an end makes no copies of clips"


def test_frames_of_one_sequence_are_near_copies_only_across_splits() -> None:
    one, two = faces(2)
    images = [one, noisy(one, 2), noisy(one, 3), two, noisy(two, 2), noisy(one, 4)]
    sequence = ["s1", "s1", "s2", "s3", "s3", "s1"]
    found = checks(made(images, [0, 0, 0, 0, 1, 2], sequence=sequence))
    pairs = [pair["names"] for pair in found["near copies within splits"]["pairs"]]
    assert sorted(pairs) == [["item 0", "item 2"], ["item 1", "item 2"]]
    assert found["near copies across splits"]["val in train"]["names"] == ["item 4"]
    assert found["near copies across splits"]["test in train"]["names"] == ["item 5"]
    assert found["sequences across splits"] == {
        "verdict": "LEAK",
        "findings": [
            "1 of 1 val items (100.0 %) are of 1 sequences of train",
            "1 of 1 test items (100.0 %) are of 1 sequences of train",
        ],
        "val in train": {"shared": 1, "items": 1, "names": ["s3"]},
        "test in train": {"shared": 1, "items": 1, "names": ["s1"]},
        "test in val": {"shared": 0, "items": 0, "names": []},
        "unknown": 0,
    }


def test_shared_subjects_are_named_and_unknown_ones_counted() -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 12, 10), np.uint8)
    subject = ["ann", "bob", "", "cid", "bob", "bob", "dan", ""]
    found = checks(made(images, [0, 0, 0, 1, 1, 2, 2, 2], subject=subject))["subjects across splits"]
    assert found["val in train"] == {"shared": 1, "items": 1, "names": ["bob"]}
    assert found["test in train"] == {"shared": 1, "items": 1, "names": ["bob"]}
    assert found["test in val"] == {"shared": 1, "items": 1, "names": ["bob"]}
    assert (found["verdict"], found["unknown"], found["findings"][-1]) == ("LEAK", 2, "unknown of 2 of 8 items")
    unknown = checks(made(images, [0, 0, 0, 1, 1, 2, 2, 2]))["subjects across splits"]
    assert (unknown["verdict"], unknown["findings"]) == ("note", ["unknown of all items"])


def test_blank_images_are_named_and_said_to_be_copies_or_not() -> None:
    images = np.random.default_rng(0).integers(0, 256, (7, 12, 10), np.uint8)
    images[1] = images[5] = 0
    images[3] = 200
    found = checks(made(images, [0, 0, 0, 0, 1, 1, 2]))
    assert found["blank images"]["train"] == {"items": 2, "names": ["item 1", "item 3"]}
    assert found["blank images"]["val"] == {"items": 1, "names": ["item 5"]}
    assert found["blank images"]["exact_copies"] == 2
    assert found["blank images"]["verdict"] == "note"
    assert found["exact copies across splits"]["val in train"]["names"] == ["item 5"]
    assert not found["near copies within splits"]["pairs"]


DRIFTS = {
    "none": [[50, 30, 20], [10, 6, 4], [10, 6, 4]],
    "strong": [[50, 30, 20], [4, 6, 10], [15, 4, 1]],
    "of two classes in two splits": [[30, 0, 20], [5, 0, 15]],
}


@pytest.mark.parametrize("counts", DRIFTS.values(), ids=DRIFTS)
def test_drift_of_the_classes_is_the_chi_square_statistic_written_out(counts: list[list[int]]) -> None:
    split = [s for s, own in enumerate(counts) for _ in range(sum(own))]
    label = [k for own in counts for k, n in enumerate(own) for _ in range(n)]
    images = np.random.default_rng(0).integers(0, 256, (len(split), 4, 4), np.uint8)
    found = checks(made(images, split, label))["class balance"]
    total, statistic = sum(map(sum, counts)), 0.0
    classes = [k for k in range(3) if any(own[k] for own in counts)]
    for own in counts:
        for k in classes:
            expected = sum(own) * sum(other[k] for other in counts) / total
            statistic += (own[k] - expected) ** 2 / expected
    v = (statistic / total / min(len(counts) - 1, len(classes) - 1)) ** 0.5
    assert found["chi_square"] == pytest.approx(statistic, abs=1e-9)
    assert found["cramers_v"] == pytest.approx(v, abs=1e-9)
    assert found["verdict"] == ("note" if v >= 0.1 else "ok") == ("note" if statistic else "ok")
    assert [list(found[name].values()) for name, _ in zip(("train", "val", "test"), counts, strict=False)] == counts


def test_lists_are_capped_and_counts_are_not() -> None:
    images = np.random.default_rng(0).integers(0, 256, (70, 12, 10), np.uint8)
    found = checks(made([*images, *images], [0] * 70 + [1] * 70))["exact copies across splits"]
    assert found["val in train"]["items"] == 70
    assert len(found["val in train"]["names"]) == len(found["pairs"]) == 50


@pytest.mark.parametrize("split", [[2, 2, 2], [0, 0, 0], [0, 2, 2]])
def test_splits_may_be_empty(split: list[int]) -> None:
    found = checks(made(faces(3), split, [0, 1, 2]))
    assert found["exact copies across splits"]["verdict"] == "ok"


# --- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images in train/ and test/, two classes: an exact copy with another label, a near and a mirrored copy."""
    monkeypatch.chdir(tmp_path)
    x = faces(10)
    files = {
        "train/happy": x[:4],
        "train/sad": [x[4], x[5], x[5]],
        "val/happy": [x[6], x[4]],
        "val/sad": [x[7], noisy(x[0], 3)],
        "test/happy": [x[8], x[1][:, ::-1]],
        "test/sad": [x[9], np.zeros_like(x[0])],
    }
    for name, images in files.items():
        Path("data", name).mkdir(parents=True)
        for i, image in enumerate(images):
            cv2.imwrite(f"data/{name}/{i}.png", image)
    return tmp_path


def test_the_command_prints_and_writes_what_it_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "audit", "data"])
    printed = capsys.readouterr().out
    text = Path("audit/audit.txt").read_text()
    assert printed.startswith(text) and "LEAK" in text
    found = json.loads(Path("audit/audit.json").read_text())
    assert found["data"] == "ImageFolder" and found["items"] == {"train": 7, "val": 4, "test": 4}
    checks = found["checks"]
    assert checks["exact copies across splits"]["val in train"]["names"] == ["val/happy/1.png"]
    assert checks["exact copies across splits"]["val in train"]["groups_of_different_labels"] == 1
    assert checks["near copies across splits"]["val in train"]["names"] == ["val/sad/1.png"]
    assert checks["augmented copies across splits"]["test in train"]["names"] == ["test/happy/1.png"]
    assert checks["exact copies within splits"]["train"]["redundant"] == 1
    assert checks["blank images"]["test"]["names"] == ["test/sad/1.png"]
    picture = cv2.imread("audit/pairs.png")
    assert picture is not None and picture.std() > 10
    assert sorted(path.name for path in Path().iterdir()) == ["audit", "data"], "nothing else is left behind"


def test_the_command_takes_options_of_the_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["data", "--data.classes={happy: glad, sad: gloomy}"]
    main(["data", "audit", *words])
    assert "gloomy" in Path("audit/audit.txt").read_text()
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["data", "inspect", *words])
    assert "ferl data audit data '--data.classes={happy: glad, sad: gloomy}'" in capsys.readouterr().err


def test_the_command_replaces_an_older_audit_only(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    with pytest.raises(SystemExit) as stop:
        main(["data", "audit", "data", "--output=mine"])
    assert stop.value.code == 2 and "not an audit" in capsys.readouterr().err
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(FerlError, match="not an audit"):
        write_audit(Path("mine"), {}, "", np.zeros((0, 4, 4), np.uint8))
    main(["data", "audit", "data", "--output", "found/here"])
    Path("found/here/audit.txt").write_text("old")
    main(
        ["data", "audit", "--data=ImageFolder", "--data.root=data", "--data.classes=[sad,happy]", "--output=found/here"]
    )
    assert "LEAK" in Path("found/here/audit.txt").read_text()


def test_data_without_copies_have_no_sheet_of_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("drawn.yaml").write_text("data: {class_path: SyntheticFaces, init_args: {items_per_class: 10, subjects: 5}}\n")
    main(["data", "audit", "--config=drawn.yaml", "--data.draw_seed=1"])
    assert sorted(path.name for path in Path("audit").iterdir()) == ["audit.json", "audit.txt"]
    found = json.loads(Path("audit/audit.json").read_text())
    assert found["data"] == "SyntheticFaces" and sum(found["items"].values()) == 70


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["audit"], "say what to look at"),
        (["audit", "data", "--data=FER2013"], "FER2013: not found; looked in data"),
        (["audit", "nowhere"], "no file or folder nowhere"),
        (["audit", "--data=FER2014"], "did you mean FER2013?"),
        (["audti", "data"], "audti"),
    ],
)
def test_mistakes_end_with_a_message(folder: Path, words: list[str], message: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["data", *words])
    assert stop.value.code == 2
    shown = capsys.readouterr().err
    assert shown.startswith("ferl: error: ") and message in shown
    assert not Path("audit").exists()


# --- data sets ------------------------------------------------------------------------------------------------------


def write_ck48(folder: Path) -> Path:
    """12 drawn people as CK+48: 4 sequences each, the last three frames of which are nearly the same."""
    rng = np.random.default_rng(0)
    store = draw_faces(EXPRESSIONS, items_per_class=12, subjects=12)
    for n, (image, label, subject) in enumerate(zip(store.images, store.label, store.subject, strict=True)):
        where = folder / "CK+48" / EXPRESSIONS[label]
        where.mkdir(parents=True, exist_ok=True)
        for frame in (11, 12, 13):
            changed = (image + rng.normal(0, 4, image.shape)).clip(0, 255).astype(np.uint8)
            cv2.imwrite(str(where / f"S{int(subject[1:]):03}_{n:03}_{frame:08}.png"), changed)
    return folder


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.skipif(REAL is None, reason="no data"))])
def test_folds_by_subject_are_sound_and_folds_by_image_leak(tmp_path: Path, real: bool) -> None:
    if real:
        subprocess.run([sys.executable, REAL / "export.py", "--layout", "ckplus48", tmp_path], check=True)
    else:
        write_ck48(tmp_path)
    sound = checks(CKPlus(root=str(tmp_path), folds=4))
    for title in ("exact copies", "near copies", "augmented copies", "subjects", "sequences"):
        assert sound[f"{title} across splits"]["verdict"] == "ok"
    data = CKPlus(root=str(tmp_path), folds=4, folds_by="leaky_image")
    leaky = checks(data)
    for title in ("near copies", "subjects", "sequences"):
        assert leaky[f"{title} across splits"]["verdict"] == "LEAK"
    for key, a, b in (("val in train", "train", "val"), ("test in train", "train", "test")):
        for what, of in (("subjects", data.raw.subject), ("sequences", data.raw.sequence)):
            known = set(of[data.items[a]].tolist())
            shared = [name for name in of[data.items[b]].tolist() if name in known]
            found = leaky[f"{what} across splits"][key]
            assert (found["shared"], found["items"]) == (len(set(shared)), len(shared)) and len(shared) > 10


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="needs FERL_REAL_DATA")
def test_the_figures_known_of_fer2013() -> None:
    assert REAL is not None
    train, public = np.load(REAL / "fer2013_train.npz"), np.load(REAL / "fer2013_public.npz")
    images = np.concatenate([train["pixels"], public["pixels"]])
    label = np.concatenate([train["emotion"], public["emotion"]]).astype(np.int64)
    n = len(train["pixels"])
    data = made(images, np.repeat([0, 1], [n, len(images) - n]), label)
    data.label_names = ["anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral"]
    found = checks(data)
    across, within = found["exact copies across splits"], found["exact copies within splits"]
    assert across["val in train"]["items"] == 280
    assert within["train"]["redundant"] == 1236
    assert within["train"]["groups_of_different_labels"] == 39
    assert within["val"]["groups_of_different_labels"] == 1
    assert found["blank images"]["train"]["items"] + found["blank images"]["val"]["items"] == 12
    assert found["blank images"]["exact_copies"] == 12
    # The same by sorting whole images.
    _, number = np.unique(images.reshape(len(images), -1), axis=0, return_inverse=True)
    assert np.isin(number[n:], number[:n]).sum() == 280
    assert within["val"]["redundant"] == len(images) - n - len(np.unique(number[n:]))
    groups = [set(label[number == g].tolist()) for g in np.intersect1d(number[:n], number[n:])]
    assert across["val in train"]["groups"] == len(groups)
    assert across["val in train"]["groups_of_different_labels"] == sum(len(labels) > 1 for labels in groups)
    # What a person saw to be copies, by looking at the sheet of pairs.
    assert found["near copies across splits"]["val in train"]["items"] == pytest.approx(137, abs=3)
    assert found["augmented copies across splits"]["val in train"]["items"] == pytest.approx(2, abs=1)
