"""CK+ in its three layouts, its items and its folds, on drawn faces and on the real CK+48 where it is."""

import cmath
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import combinations, product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from ferlightning.data import CKPlus
from ferlightning.data.sources.ckplus.readers import find
from ferlightning.data.sources.layouts import find_layouts
from ferlightning.data.sources.synthetic.datamodule import draw_faces
from ferlightning.data.store import UNLABELLED
from ferlightning.errors import FerlError
from tests.conftest import SMALL
from tests.data.ckplus_layouts import (
    CODES,
    DRAWN,
    SEVEN,
    SUBJECTS,
    Face,
    Truth,
    write_ck48,
    write_csv,
    write_landmarks,
    write_original,
    write_posed,
)

REAL = Path(os.environ["FERL_REAL_DATA"]) if "FERL_REAL_DATA" in os.environ else None


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_original(tmp_path_factory.mktemp("original")))


@pytest.fixture(scope="module")
def ck48(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_ck48(tmp_path_factory.mktemp("ck48")))


@pytest.fixture(scope="module")
def ckextended(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_csv(tmp_path_factory.mktemp("csv")))


# --- layouts and items ----------------------------------------------------------------------------------------------


def test_the_layouts_have_the_same_images_and_labels(original: str, ck48: str, ckextended: str) -> None:
    whole, last_three = CKPlus(original, crop=False).read(), CKPlus(ck48).read()
    frames = [(x, t) for x in DRAWN for t in range(len(x.frames))[-3:]]
    for store in (whole, last_three):
        np.testing.assert_array_equal(store.images, [x.frames[t] for x, t in frames])
        assert store.label.tolist() == [x.code for x, _ in frames]
        assert store.name.tolist() == [x.file(t)[:-4] for x, t in frames]
        assert store.sequence.tolist() == [x.name for x, _ in frames]
        assert store.subject.tolist() == [x.subject for x, _ in frames]
        assert store.start.tolist() == list(range(len(frames) + 1))
        assert not len(store.remarks)
    pairs = CKPlus(original, crop=False, last=1, neutral_first=True).read()
    rows = CKPlus(ckextended, folds_by="leaky_image").read()
    np.testing.assert_array_equal(rows.images, pairs.images)
    np.testing.assert_array_equal(rows.label, pairs.label)
    np.testing.assert_array_equal(rows.images, [x.frames[t] for x in DRAWN for t in (0, -1)])
    assert rows.label.tolist() == [code for x in DRAWN for code in (0, x.code)]
    assert rows.name[0] == "row 1" and not rows.subject.any()


@pytest.mark.parametrize("last", [2, None])
def test_only_the_last_frames(original: str, ck48: str, last: int | None) -> None:
    stills = CKPlus(original, crop=False, last=last).read()
    clips = CKPlus(original, crop=False, last=last, clips=True).read()
    expected = [x.frames[-(last or len(x.frames)) :] for x in DRAWN]
    for store in (stills, clips):
        np.testing.assert_array_equal(store.images, np.concatenate(expected))
    assert len(stills) == sum(map(len, expected))
    assert len(clips) == len(DRAWN) and clips.name.tolist() == clips.sequence.tolist() == [x.name for x in DRAWN]
    assert clips.label.tolist() == [x.code for x in DRAWN]
    assert np.diff(clips.start).tolist() == list(map(len, expected))
    assert np.diff(CKPlus(ck48, last=last, clips=True).read().start).tolist() == [min(last or 3, 3)] * len(DRAWN)


def test_clips_are_padded_and_masked(original: str) -> None:
    data = CKPlus(original, clips=True, last=None, crop=False, batch_size=4)
    seen = 0
    for batch in data.test_dataloader():
        for row, index in enumerate(batch["index"].tolist()):
            x = DRAWN[data.items["test"][index]]
            mask = batch["mask"][row] if "mask" in batch else np.ones(batch["image"].shape[1], bool)
            assert mask.tolist() == [t < len(x.frames) for t in range(batch["image"].shape[1])]
            np.testing.assert_array_equal(batch["image"][row, : len(x.frames), 0], x.frames)
            assert not batch["image"][row, len(x.frames) :].any()
            assert data.class_names[batch["label"][row]] == CODES[x.code]
            seen += len(x.frames)
    assert seen == sum(len(DRAWN[i].frames) for i in data.items["test"]) > 0


@pytest.mark.parametrize("last", [3, None])
def test_the_first_frame_is_neutral_and_nothing_else(original: str, last: int | None) -> None:
    data = CKPlus(original, neutral_first=True, last=last, crop=False)
    assert data.class_names == CODES
    store, n = data.read(), 0
    for x in DRAWN:
        shown = [0, *range(1, len(x.frames))[-(last or 99) :]]
        found = slice(n, n + len(shown))
        np.testing.assert_array_equal(store.images[found], x.frames[shown])
        assert store.label[found].tolist() == [0] + [x.code] * (len(shown) - 1)
        assert store.name[n] == x.file(0)[:-4]
        n += len(shown)
    assert n == len(store)


def test_classes(original: str, ckextended: str) -> None:
    assert CKPlus(original).class_names == SEVEN
    assert CKPlus(original, clips=True).class_names == SEVEN
    assert CKPlus(ckextended, folds_by="leaky_image").class_names == CODES
    data = CKPlus(original, classes=["happy", "anger"], crop=False, last=1, fold=None)
    assert data.class_names == ["happiness", "anger"]
    assert data.item_names("test").tolist() == [x.file(len(x.frames) - 1)[:-4] for x in DRAWN if x.code in (1, 5)]
    assert data.label[data.items["test"]].tolist() == [int(x.code == 1) for x in DRAWN if x.code in (1, 5)]
    with pytest.raises(FerlError, match="no class 'boredom'"):
        _ = CKPlus(original, classes=["boredom", "anger"]).class_names


def test_sequences_without_emotion_are_kept_and_unlabelled(tmp_path: Path) -> None:
    """Some with an empty emotion folder, some without one."""
    drawn = [x._replace(code=-1) if n % 5 == 0 else x for n, x in enumerate(DRAWN[:20])]
    write_original(tmp_path, drawn, "Emotion_labels/Emotion")
    (tmp_path / "Emotion_labels" / "Emotion" / drawn[0].subject / drawn[0].number).rmdir()
    for clips, fold in product((True, False), (0, None)):
        data = CKPlus(str(tmp_path), fold=fold, folds=3, clips=clips, last=2, neutral_first=not clips, crop=False)
        store, unlabelled = data.read(), [x for x in drawn if x.code < 0]
        assert (store.label == UNLABELLED).sum() == (len(unlabelled) if clips else 2 * len(unlabelled))
        assert set(store.sequence[store.label == UNLABELLED]) == {x.name for x in unlabelled}
        (remark,) = store.remarks
        assert "4 of 20 sequences have no emotion label" in remark
        used = np.concatenate(list(data.items.values()))
        assert sorted(used) == np.flatnonzero(store.label != UNLABELLED).tolist()
        assert (data.fold_numbers[store.label == UNLABELLED] == -1).all()


def test_size_and_color(original: str, ck48: str, ckextended: str) -> None:
    half = [cv2.resize(x.frames[-1], (24, 24), interpolation=cv2.INTER_AREA) for x in DRAWN]
    for root, options in ((original, {"crop": False}), (ck48, {}), (ckextended, {"folds_by": "leaky_image"})):
        images = CKPlus(root, size=24, color=True, last=1, **options).read().images
        images = images[1::2] if root == ckextended else images
        assert images.shape == (len(DRAWN), 24, 24, 3) and images.dtype == np.uint8
        np.testing.assert_array_equal(images, np.repeat(np.array(half)[..., None], 3, axis=3))


# --- faces cut out --------------------------------------------------------------------------------------------------


def write_pictures(root: Path, first: NDArray[np.uint8], seed: int = 0) -> str:
    """One sequence of a given first frame, then pictures (490, 640) whose pixels tell their own place in red and green.

    So the box that was cut out of them can be read off.
    """
    y, x = np.mgrid[:490, :640]
    place = np.stack([np.full_like(x, 200), y // 4, x // 4], axis=2).astype(np.uint8)  # OpenCV writes blue first
    folders = [root / part / "S010" / "004" for part in ("cohn-kanade-images", "Emotion")]
    for folder in folders:
        folder.mkdir(parents=True)
    for t, picture in enumerate([first, place, place]):
        cv2.imwrite(str(folders[0] / f"S010_004_{t + 1:08}.png"), picture)
    (folders[1] / "S010_004_00000003_emotion.txt").write_text("   5.0000000e+00\n")
    return str(root)


@pytest.mark.parametrize(("left", "top", "side"), [(200, 120, 300), (320, 240, 250)])
def test_a_face_is_cut_out_of_all_frames_by_the_first(tmp_path: Path, left: int, top: int, side: int) -> None:
    store = draw_faces(["neutral"], 3, 3, seed=4, size=side)
    picture = np.full((490, 640), 128, np.uint8)
    picture[top : top + side, left : left + side] = store.images[0]
    data = CKPlus(write_pictures(tmp_path, picture), last=2, color=True, size=49)
    one, other = data.read().images.astype(int)
    np.testing.assert_array_equal(one, other)
    assert (one[..., 2] == 200).all(), "RGB, so blue is last"
    x, y = 4 * one[24, :, 0], 4 * one[:, 24, 1]
    width, height = (x[-1] - x[0]) * 49 / 48, (y[-1] - y[0]) * 49 / 48
    assert abs(width - height) <= 8
    assert 0.8 * side < width < 1.2 * side, "head and chin are 0.9 of what was drawn"
    assert abs(x[24] - (left + side / 2)) < 0.1 * side and abs(y[24] - (top + side / 2)) < 0.1 * side
    assert not len(data.read().remarks)


@pytest.mark.parametrize("corner", ["top left", "bottom right"])
def test_a_face_box_stays_within_the_picture_and_has_the_margin(tmp_path: Path, corner: str) -> None:
    """As OpenCV finds it, grown by a tenth to each side and pushed inside, in a picture with no room at a corner."""
    picture = draw_faces(["neutral"], 3, 3, seed=4, size=300).images[1 if corner == "top left" else 2]
    picture = picture[40:, 30:] if corner == "top left" else np.ascontiguousarray(picture[:260, :262])
    path = str(Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml")
    ((left, top, side, _),) = cv2.CascadeClassifier(path).detectMultiScale(picture, 1.1, 5, minSize=(64, 64))
    grown = int(1.2 * side)
    left, top = left - 0.1 * side, top - 0.1 * side
    if corner == "top left":
        assert left < 0 and top < 0
        left, top = 0, 0
    else:
        assert left + grown > 262 and top + grown > 260
        left, top = round(262 - 1.2 * side), round(260 - 1.2 * side)
    folder = tmp_path / "cohn-kanade-images" / "S010" / "004"
    write_pictures(tmp_path, picture)
    for t in (2, 3):
        cv2.imwrite(str(folder / f"S010_004_{t:08}.png"), picture)
    (image,) = CKPlus(str(tmp_path), last=1, size=grown).read().images
    np.testing.assert_array_equal(image, picture[top : top + grown, left : left + grown])


def test_without_a_face_the_centre_is_taken_and_said_so(tmp_path: Path) -> None:
    data = CKPlus(write_pictures(tmp_path, np.full((490, 640), 128, np.uint8)), last=1, color=True, size=490)
    (image,) = data.read().images
    assert image[0, 0].tolist() == [75 // 4, 0, 200] and image[-1, -1].tolist() == [564 // 4, 489 // 4, 200]
    (remark,) = data.read().remarks
    assert "In 1 of 1 sequences no face was found" in remark and "S010_004" in remark
    whole = CKPlus(data.root, last=1, color=True, size=490, crop=False).read()
    assert whole.images[0, 0, 0, 0] == 0 and not len(whole.remarks)


# --- faces aligned by their eyes ------------------------------------------------------------------------------------


POSES = [
    (a * cmath.exp(1j * np.radians(degrees)), b)
    for a, degrees, b in [(130, 0, 320 + 240j), (110, 14, 250 + 200j), (150, -9, 360 + 260j), (120, 25, 300 + 230j)]
]


def upright(face: Face, size: int) -> NDArray[np.uint8]:
    """Drawn with the eyes at 35 and 65 % of the width and 30 % of the height, in a picture that shows what is beside.

    Drawn four times as large, for the lines to have the same share of the face.
    """
    left, right = face.eyes
    a = 4 * size * 0.3 / (right - left)
    large = face.draw(a, 4 * size * (0.35 + 0.3j) - (0.5 + 0.5j) - a * left, 4 * size, 4 * size)
    return cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA).astype(np.uint8)


def off(found: NDArray[np.uint8], drawn: NDArray[np.uint8]) -> float:
    """Pixels by which one picture is shifted against another."""
    window = cv2.createHanningWindow(found.shape[::-1], cv2.CV_64F)
    shift, _ = cv2.phaseCorrelate(found.astype(np.float64), drawn.astype(np.float64), window)
    return float(np.hypot(*shift))


def test_each_frame_is_put_upright_by_its_own_landmarks(tmp_path: Path) -> None:
    faces = [Face(3, surprise) for surprise in (0.0, 0.3, 0.6, 1.0)]
    root = write_posed(tmp_path, faces, POSES)
    clip = CKPlus(root, clips=True, last=None, size=96, crop="eyes").read()
    stills = CKPlus(root, last=2, size=96, crop="eyes", color=True).read()
    np.testing.assert_array_equal(stills.images[..., 0], clip.images[2:])
    boxes = CKPlus(root, clips=True, last=None, size=96).read()
    assert not len(clip.remarks) and len(clip.images) == 4
    for image, box, face in zip(clip.images, boxes.images, faces, strict=True):
        drawn = upright(face, 96)
        assert off(image, drawn) < 0.5
        difference = np.abs(image.astype(int) - drawn).mean()
        assert difference < 3 < 4 * difference + 12 < np.abs(box.astype(int) - drawn).mean()


def test_without_landmarks_a_clip_is_aligned_by_the_eyes_of_its_first_frame(tmp_path: Path) -> None:
    face = Face(3)
    turned = (130 * cmath.exp(1j * np.radians(8)), 320 + 240j)
    root = write_posed(tmp_path, [face] * 3, [turned, turned, (turned[0], turned[1] + 26)], landmarks=False)
    clip = CKPlus(root, clips=True, last=None, size=96, crop="eyes").read()
    drawn = upright(face, 96)
    first, second, moved = clip.images
    assert off(first, drawn) < 3, "as near as the cascade comes"
    boxed = CKPlus(root, last=1, size=96).read().images[0]
    assert np.abs(first.astype(int) - drawn).mean() < 0.7 * np.abs(boxed.astype(int) - drawn).mean()
    np.testing.assert_array_equal(first, second)
    distance = abs(turned[0] * (face.eyes[1] - face.eyes[0]))
    assert abs(off(first, moved) - 26 * 0.3 * 96 / distance) < 1, "what moves within a clip moves in what is cut out"
    (remark,) = clip.remarks
    assert "no folder Landmarks" in remark and "first frame" in remark


def test_without_a_pair_of_eyes_the_box_of_the_face_is_taken_and_said_so(tmp_path: Path) -> None:
    face, a, b = Face(3), 130, 320 + 240j
    write_posed(tmp_path, [face] * 2, [(a, b)] * 2, landmarks=False)
    for path in (tmp_path / "cohn-kanade-images").rglob("*.png"):
        picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert picture is not None
        eye = a * face.eyes[1] + b
        cv2.circle(picture, (round(eye.real), round(eye.imag)), 20, float(face.who.skin), -1)  # type: ignore[call-overload]
        cv2.imwrite(str(path), picture)
    eyes, box = (CKPlus(str(tmp_path), crop=crop).read() for crop in ("eyes", True))  # type: ignore[arg-type]
    np.testing.assert_array_equal(eyes.images, box.images)
    assert not len(box.remarks)
    assert (
        "In 1 of 1 sequences a face but no pair of eyes was found" in eyes.remarks[1] and "S010_004" in eyes.remarks[1]
    )


def test_without_a_face_no_eyes_are_looked_for(tmp_path: Path) -> None:
    root = write_pictures(tmp_path, np.full((490, 640), 128, np.uint8))
    eyes, box = (CKPlus(root, last=1, crop=crop).read() for crop in ("eyes", True))  # type: ignore[arg-type]
    np.testing.assert_array_equal(eyes.images, box.images)
    assert [remark for remark in eyes.remarks if "no folder Landmarks" not in remark] == box.remarks.tolist()


def test_missing_and_damaged_landmarks_are_refused_by_name(tmp_path: Path) -> None:
    root = write_posed(tmp_path, [Face(3)] * 3, POSES[:3])
    folder = tmp_path / "Landmarks" / "S010" / "004"
    path = folder / "S010_004_00000002_landmarks.txt"
    text = path.read_text()

    def refused(named: Path, message: str, crop: Any = "eyes") -> None:
        with pytest.raises(FerlError) as error:
            CKPlus(root, crop=crop).read()
        assert str(named) in str(error.value) and message in str(error.value)

    path.unlink()
    refused(path, "is missing, expected 68 lines of two numbers")
    assert len(CKPlus(root, last=1, crop="eyes").read()) == 1, "only those of frames that are read"
    refused(say(path, text[:200]), "expected 68 lines of two numbers")
    refused(write_landmarks(path, Face(3).landmarks * 2000), "inside the picture of 640 x 490 pixels")
    assert len(CKPlus(root).read()) == 3, "they are read to align only"
    say(path, text)
    assert len(CKPlus(root, crop="eyes").read()) == 3
    empty(folder)
    refused(tmp_path / "Landmarks", "no file S*/*/*_landmarks.txt in this folder")


def test_aligned_faces_have_a_store_of_their_own(tmp_path: Path) -> None:
    root = write_posed(tmp_path, [Face(3)] * 3, POSES[:3])

    def file(crop: Any) -> str:
        return str(CKPlus(root, crop=crop).read().images.filename)  # type: ignore[attr-defined]

    files = [file(crop) for crop in (False, True, "eyes")]
    assert len(set(files)) == 3
    a, b = POSES[1]
    write_landmarks(tmp_path / "Landmarks/S010/004/S010_004_00000002_landmarks.txt", a * Face(3).landmarks + b + 9)
    assert [file(crop) == before for crop, before in zip((False, True, "eyes"), files, strict=True)] == [
        True,
        True,
        False,
    ]
    assert CKPlus(root, crop="eyes").read().images[1].tolist() != np.load(files[2])[1].tolist()
    (tmp_path / "Landmarks").rename(tmp_path / "elsewhere")
    assert "no folder Landmarks" in CKPlus(root, crop="eyes").read().remarks[0]


def test_face_crops_are_left_as_they_are(ck48: str, ckextended: str) -> None:
    for root, options in ((ck48, {}), (ckextended, {"folds_by": "leaky_image"})):
        stores = [CKPlus(root, crop=crop, **options).read() for crop in (True, "eyes")]  # type: ignore[arg-type]
        np.testing.assert_array_equal(stores[0].images, stores[1].images)
        assert not len(stores[1].remarks)


# --- folds ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("folds_by", "clips"), [("subject", True), ("stratified_subject", False)])
def test_folds_are_disjoint_in_subjects_and_cover_everything(original: str, folds_by: Any, clips: bool) -> None:
    tested = []
    folds = [CKPlus(original, fold=fold, folds_by=folds_by, clips=clips, crop=False) for fold in range(10)]
    for data, after in zip(folds, folds[1:] + folds[:1], strict=True):
        subjects = {split: set(data.raw.subject[items]) for split, items in data.items.items()}
        assert all(subjects.values())
        for one, other in combinations(subjects.values(), 2):
            assert not one & other
        assert sorted(np.concatenate(list(data.items.values()))) == list(range(len(data.raw)))
        assert data.items["val"].tolist() == after.items["test"].tolist()
        assert data.notes("test") == []
        tested += data.items["test"].tolist()
    assert sorted(tested) == list(range(len(data.raw)))


def test_the_standard_folds_are_every_tenth_subject(original: str) -> None:
    order = ["S005", "S010", "S011", "S014", "S022", "S035", "S042", "S044", "S124", "S130", "S506", "S999"]
    test = [
        ["S005", "S506"],
        ["S010", "S999"],
        ["S011"],
        ["S014"],
        ["S022"],
        ["S035"],
        ["S042"],
        ["S044"],
        ["S124"],
        ["S130"],
    ]
    assert sorted(SUBJECTS) == order == sorted({x.subject for x in DRAWN})
    for fold, subjects in enumerate(test):
        data = CKPlus(original, fold=fold, crop=False)
        assert sorted(set(data.raw.subject[data.items["test"]])) == subjects
        assert sorted(set(data.raw.subject[data.items["val"]])) == test[(fold + 1) % 10]
    three = CKPlus(original, folds=3, fold=2, crop=False)
    assert sorted(set(three.raw.subject[three.items["test"]])) == ["S011", "S035", "S124", "S999"]


def test_folds_do_not_depend_on_what_the_items_are(original: str) -> None:
    def deal(**options: Any) -> dict[str, int]:
        data = CKPlus(original, crop=False, folds=5, **options)
        return dict(zip(data.raw.sequence.tolist(), data.fold_numbers.tolist(), strict=True))

    for folds_by in ("subject", "stratified_subject"):
        base = deal(folds_by=folds_by)
        assert len(base) == len(DRAWN)
        for options in ({"clips": True}, {"last": None}, {"neutral_first": True}, {"classes": ["anger", "fear"]}):
            assert deal(folds_by=folds_by, **options) == base
    assert deal(folds_by="stratified_subject", split_seed=1) != base == deal(folds_by="stratified_subject")


def imbalance(data: CKPlus) -> float:
    """Sum over folds and classes of how far a class's share of the fold is from its share of all."""
    label, number = data.raw.label, data.fold_numbers
    share = {k: np.mean(label == k) for k in np.unique(label)}
    return float(sum(abs(np.mean(label[number == f] == k) - share[k]) for f in range(data.folds) for k in share))


def test_stratified_folds_are_closer_to_the_balance_of_classes(tmp_path: Path) -> None:
    """60 subjects, of whom each tenth shows much of one class, which the standard folds then have in one fold."""
    rng = np.random.default_rng(0)
    drawn = []
    for s in range(60):
        codes = [1, 1, 1, 5] if s % 10 == 3 else rng.integers(1, 8, rng.integers(1, 6)).tolist()
        drawn += [Truth(f"S{s:03}", f"{n:03}", k, np.full((1, 8, 8), n, np.uint8)) for n, k in enumerate(codes)]
    root = str(write_ck48(tmp_path, drawn))
    standard, stratified = (CKPlus(root, size=8, folds_by=x) for x in ("subject", "stratified_subject"))  # type: ignore[arg-type]
    assert imbalance(stratified) < 0.7 * imbalance(standard)


def test_leaky_folds_take_no_notice_of_subjects_and_say_so(ck48: str) -> None:
    tested = []
    for fold in range(10):
        data = CKPlus(ck48, fold=fold, folds_by="leaky_image")
        tested += data.items["test"].tolist()
        assert sum(map(len, data.items.values())) == len(data.raw)
        assert set(data.raw.subject[data.items["test"]]) & set(data.raw.subject[data.items["train"]])
    assert sorted(tested) == list(range(len(data.raw)))
    notes = " ".join(data.notes("test"))
    assert "in train and in test" in notes and "leaky_image" in notes and "too high" in notes


def test_the_csv_has_its_own_leaky_split_only(ckextended: str) -> None:
    data = CKPlus(ckextended, folds_by="leaky_image")
    usage = np.repeat([(0, 0, 0, 1, 2)[n % 5] for n in range(len(DRAWN))], 2)
    for i, split in enumerate(("train", "val", "test")):
        assert data.items[split].tolist() == np.flatnonzero(usage == i).tolist()  # type: ignore[index]
    (note,) = data.notes("test")
    assert "Usage" in note and "leaky_image" in note
    everything = CKPlus(ckextended, fold=None)
    assert len(everything.items["test"]) == len(everything.raw) and everything.notes("test") == []


def test_fold_null_tests_on_everything(original: str) -> None:
    data = CKPlus(original, fold=None, crop=False)
    assert {split: len(items) for split, items in data.items.items()} == {"train": 0, "val": 0, "test": len(data.raw)}
    assert data.notes("test") == [] and data.class_counts == [0] * 7
    assert sum(len(batch["label"]) for batch in data.test_dataloader()) == len(data.raw)
    data.setup("test")
    for stage in ("fit", "validate"):
        with pytest.raises(FerlError, match=r"data.fold is null.*give a fold from 0 to 9 with --data.fold"):
            data.setup(stage)


def test_a_fold_without_any_item_is_refused(original: str) -> None:
    """Rather than tested on validation."""
    with pytest.raises(FerlError, match="fold 11 of 13, the one for val"):
        # 12 subjects: 0 to 11; no anger among those of fold 11 makes it as good as empty
        _ = CKPlus(original, crop=False, folds=13, fold=10, classes=missing_classes(11)).items
    with pytest.raises(FerlError, match="fold 12 of 13, the one for test, has no item"):
        _ = CKPlus(original, crop=False, folds=13, fold=12).items
    with pytest.raises(FerlError, match=r"n_splits=50 .*--data.folds"):
        _ = CKPlus(original, crop=False, folds=50, folds_by="stratified_subject").items


def missing_classes(rank: int) -> list[str]:
    """Classes that the subject of a rank does not show."""
    shown = {x.code for x in DRAWN if x.subject == sorted(SUBJECTS)[rank]}
    return [CODES[code] for code in range(8) if code not in shown]


def test_a_list_of_folds_is_followed(original: str, tmp_path: Path) -> None:
    path = tmp_path / "folds.csv"
    rows = [f" {subject} ,{n % 4} " for n, subject in enumerate(SUBJECTS)]
    path.write_text("\ufeffsubject,fold\r\n" + "\r\n".join([*rows, "S777,1", rows[0]]) + "\r\n\r\n")
    for fold in range(4):
        data = CKPlus(original, folds=4, fold=fold, folds_file=str(path), crop=False)
        assert set(data.raw.subject[data.items["test"]]) == set(SUBJECTS[fold::4])
        assert set(data.raw.subject[data.items["val"]]) == set(SUBJECTS[(fold + 1) % 4 :: 4])


LISTED = [f"{subject},{n % 4}" for n, subject in enumerate(SUBJECTS)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["subject,fold", *LISTED, "S010,3"], "line 14: subject S010 is in fold 3, and in fold 1 in line 3"),
        (["subject,fold", *LISTED[:-1]], "does not list S035, of 1 subjects"),
        (["subject,fold", *LISTED, "S777,4"], "line 14: the fold is '4', expected a number from 0 to 3"),
        (["subject,fold", "S010,-1"], "line 2: the fold is '-1', expected"),
        (["id,fold", *LISTED], "the first line is 'id,fold', expected subject,fold"),
        (
            ["subject,fold", *(f"{subject},{n % 2}" for n, subject in enumerate(SUBJECTS))],
            "fold 2 of 4, the one for test",
        ),
    ],
    ids=["twice", "missing", "too high", "negative", "header", "fold without subjects"],
)
def test_a_bad_list_of_folds_is_refused(original: str, tmp_path: Path, rows: list[str], message: str) -> None:
    path = tmp_path / "folds.csv"
    path.write_text("\n".join(rows))
    with pytest.raises(FerlError) as error:
        _ = CKPlus(original, folds=4, fold=2, folds_file=str(path), crop=False).items
    assert message in str(error.value)
    assert str(path) in str(error.value) or "fold 2 of 4" in message
    with pytest.raises(FerlError, match="cannot read"):
        _ = CKPlus(original, folds_file=str(tmp_path / "absent.csv"), crop=False).items


# --- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 10}, "data.fold is 10: give a number from 0 to 9"),
        ({"fold": 5, "folds": 5}, "data.fold is 5: give a number from 0 to 4"),
        ({"folds": 2}, "data.folds is 2: .* at least 3"),
        ({"last": 0}, "data.last is 0"),
        ({"neutral_first": True, "clips": True}, "data.neutral_first is for stills"),
        ({"folds_file": "x.csv", "folds_by": "leaky_image"}, "takes the place of data.folds_by"),
    ],
)
def test_arguments_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(FerlError, match=message):
        CKPlus(**options)


@pytest.mark.parametrize(
    ("layout", "options", "message"),
    [
        ("ck48", {"neutral_first": True}, "neutral_first needs whole sequences; .* only the last three frames"),
        ("ckextended", {"neutral_first": True, "fold": None}, "neutral images of its own"),
        ("ckextended", {"clips": True, "fold": None}, "stills only"),
        ("ckextended", {}, "does not say who is shown.*--data.folds_by=leaky_image .*Usage.*leaks"),
        ("ckextended", {"folds_by": "stratified_subject"}, "does not say who is shown"),
        ("ckextended", {"folds_file": "folds.csv"}, "does not say who is shown"),
        ("ckextended", {"folds_by": "leaky_image", "fold": 1}, "data.fold is 1: .* has one split and no folds"),
    ],
)
def test_what_a_layout_cannot_give_is_refused(request, layout: str, options: dict[str, Any], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(FerlError, match=message):
        CKPlus(request.getfixturevalue(layout), **options).read()


def frame(root: Path, n: int, t: int = -1) -> Path:
    x = DRAWN[n]
    return root / "cohn-kanade-images" / x.subject / x.number / x.file(t % len(x.frames))


def emotion(root: Path, n: int) -> Path:
    x = DRAWN[n]
    return root / "Emotion" / x.subject / x.number / f"{x.file(len(x.frames) - 1)[:-4]}_emotion.txt"


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-200])
    return path


def say(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def empty(folder: Path) -> Path:
    for path in folder.iterdir():
        path.unlink()
    return folder


def move(path: Path, to: Path) -> Path:
    path.rename(to)
    return to


def remove_images(root: Path) -> Path:
    empty(frame(root, 1).parent).rmdir()
    return emotion(root, 1)


def bare(root: Path) -> Path:
    (root / "Emotion").rename(root / "elsewhere")
    (root / "Emotion").mkdir()
    return root / "Emotion"


BAD_ORIGINAL: dict[str, tuple[Callable[[Path], Path], str]] = {
    "damaged first frame": (lambda root: cut(frame(root, 2, 0)), "cannot be read as an image"),
    "no frames": (lambda root: empty(frame(root, 1).parent), "no frames in this folder, expected"),
    "no images": (remove_images, "the images of this sequence are missing, expected them in"),
    "words": (lambda root: say(emotion(root, 1), "happy"), "says 'happy', expected a code from 0 to 7"),
    "code 8": (lambda root: say(emotion(root, 1), "  8.0000000e+00\n"), "says '8.0000000e+00', expected"),
    "code 2.5": (lambda root: say(emotion(root, 1), "  2.5000000e+00\n"), "says '2.5000000e+00', expected"),
    "no text": (lambda root: say(emotion(root, 1), ""), "says '', expected"),
    "foreign frame": (lambda root: move(frame(root, 1), frame(root, 0).parent / frame(root, 1).name), "a frame of"),
    "odd name": (lambda root: move(frame(root, 1), frame(root, 1).with_name("copy.png")), "expected a frame of"),
    "frame twice": (
        lambda root: move(frame(root, 1, 0), frame(root, 1).with_suffix(".jpg")),
        "the same frame as",
    ),
    "foreign emotion": (
        lambda root: move(emotion(root, 1), emotion(root, 0).parent / emotion(root, 1).name),
        "this is no emotion file of",
    ),
    "two emotions": (
        lambda root: say(emotion(root, 1).with_name(f"{DRAWN[1].name}_99999999_emotion.txt"), "1"),
        "a second emotion file of",
    ),
    "no Emotion": (lambda root: move(root / "Emotion", root / "elsewhere").parent, "no folder Emotion beside them"),
    "bare Emotion": (bare, "no file S*/*/*_emotion.txt"),
}


@pytest.mark.parametrize("kind", BAD_ORIGINAL)
def test_a_bad_original_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    change, message = BAD_ORIGINAL[kind]
    named = change(write_original(tmp_path, DRAWN[:3]))
    with pytest.raises(FerlError) as error:
        CKPlus(str(tmp_path)).read()
    assert str(named) in str(error.value) and message in str(error.value)


def test_neutral_first_needs_two_frames(tmp_path: Path) -> None:
    write_original(tmp_path, [DRAWN[0]._replace(frames=DRAWN[0].frames[:1])])
    with pytest.raises(FerlError, match=f"{DRAWN[0].file(0)}: the only frame of its sequence"):
        CKPlus(str(tmp_path), neutral_first=True, crop=False).read()
    assert len(CKPlus(str(tmp_path), crop=False).read()) == 1


def test_a_bad_ck48_is_refused_by_name(tmp_path: Path) -> None:
    happy = next(x for x in DRAWN if x.code == 5)
    folder = write_ck48(tmp_path) / "CK+48"
    path = folder / "happy" / happy.file(len(happy.frames) - 1)

    def refused(named: Path, message: str) -> None:
        with pytest.raises(FerlError) as error:
            CKPlus(str(tmp_path)).read()
        assert str(named) in str(error.value) and message in str(error.value)

    odd = path.rename(path.with_name("me.png"))
    refused(odd, "expected a name such as S010_004_00000017.png")
    moved = odd.rename(folder / "sadness" / path.name)
    refused(moved, f"the sequence {happy.name} is in two folders, also as {folder / 'happy'}")
    moved.rename(path)
    assert len(CKPlus(str(tmp_path)).read()) == 3 * len(DRAWN)
    whole = path.read_bytes()
    refused(cut(path), "cannot be read as an image")
    path.write_bytes(whole)
    (folder / "boredom").mkdir()
    refused(folder / "boredom", "is no emotion of CK+")


def test_a_bad_csv_is_refused_by_row(tmp_path: Path) -> None:
    path = write_csv(tmp_path, DRAWN[:2]) / "ckextended.csv"
    text = path.read_text().splitlines()
    path.write_text("\n".join([*text[:3], "8" + text[3][1:], *text[4:]]))
    with pytest.raises(FerlError, match=r"ckextended.csv, line 4: .*8"):
        CKPlus(str(path), fold=None).read()
    path.write_text("\n".join(line.rpartition(",")[0] for line in text))
    with pytest.raises(FerlError, match="must be emotion,pixels,Usage"):
        CKPlus(str(path), fold=None).read()


# --- where it is ----------------------------------------------------------------------------------------------------


def test_where_the_data_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_original(tmp_path / "a" / "CK+", DRAWN[:2], "Emotion_labels")
    write_original(tmp_path / "b", DRAWN[:3], "Emotion_labels/Emotion")
    (tmp_path / "b" / "cohn-kanade-images").rename(tmp_path / "images")
    (tmp_path / "b" / "extended-cohn-kanade-images").mkdir()
    (tmp_path / "images").rename(tmp_path / "b" / "extended-cohn-kanade-images" / "cohn-kanade-images")
    write_ck48(tmp_path / "b", DRAWN[:4])
    write_csv(tmp_path / "b", DRAWN[:5])

    def found(root: Path | None, layout: str | None = None) -> tuple[str, int]:
        data = CKPlus(root and str(root), layout, clips=layout != "ckextended", fold=None, crop=False)
        return data.source.name, len(data.read())

    assert found(tmp_path / "a") == found(tmp_path / "a" / "CK+") == ("original", 2)
    assert found(tmp_path / "b") == ("original", 3)
    assert found(tmp_path / "b", "ck48") == found(tmp_path / "b" / "CK+48") == ("ck48", 4)
    assert found(tmp_path / "b", "ckextended") == found(tmp_path / "b" / "ckextended.csv", "ckextended")
    monkeypatch.setenv("FERL_DATA", str(tmp_path / "a"))
    assert found(None) == ("original", 2)
    with pytest.raises(FerlError, match=r"CK\+: not found; .*CK\+48/<emotion>/.*Found there: original"):
        found(None, "ck48")
    monkeypatch.delenv("FERL_DATA")
    with pytest.raises(FerlError, match="cohn-kanade-images.*CK\\+48.*ckextended.csv"):
        found(None)


def test_other_data_sets_are_not_taken_for_it(tmp_path: Path) -> None:
    for emotion in ("happy", "sad"):
        (tmp_path / "train" / emotion).mkdir(parents=True)
        cv2.imwrite(str(tmp_path / "train" / emotion / "Training_1.jpg"), DRAWN[0].frames[0])
    (tmp_path / "fer2013.csv").write_text("emotion,pixels,Usage\n")
    assert find(tmp_path) == find(tmp_path / "train") == find(tmp_path / "fer2013.csv") == []


def test_folds_share_one_store_and_contents_do_not(original: str) -> None:
    def file(**options: Any) -> str:
        return str(CKPlus(original, **({"crop": False} | options)).read().images.filename)  # type: ignore[attr-defined]

    assert file() == file(fold=3) == file(folds=5, folds_by="leaky_image") == file(fold=None)
    contents = [{}, {"clips": True}, {"last": 2}, {"neutral_first": True}, {"size": 24}, {"color": True}]
    assert len({file(**options) for options in contents}) == len(contents)


def test_as_its_archives_unpack_and_as_others_split_it(original: str, tmp_path: Path) -> None:
    write_original(tmp_path / "unpacked")
    for old, new in (("cohn-kanade-images", "extended-cohn-kanade-images"), ("Emotion", "Emotion_labels")):
        (tmp_path / "unpacked" / new).mkdir()
        (tmp_path / "unpacked" / old).rename(tmp_path / "unpacked" / new / old)
    (found,) = find_layouts(find, tmp_path / "unpacked")  # once, and not again in the folder of its archive
    assert found.name == "original" and len(CKPlus(str(tmp_path / "unpacked")).raw) == len(CKPlus(original).raw)
    write_ck48(tmp_path / "split")
    whole = CKPlus(str(tmp_path / "split")).raw
    for n, folder in enumerate(sorted((tmp_path / "split" / "CK+48").iterdir())):
        part = tmp_path / "split" / ("train", "testing")[n % 2]
        part.mkdir(exist_ok=True)
        folder.rename(part / folder.name)
    parts = CKPlus(str(tmp_path / "split")).raw
    assert parts.name.tolist() == whole.name.tolist() and parts.label.tolist() == whole.label.tolist()
    assert parts.remarks[-1].startswith(
        "The folders testing, train were read together, since CK+ is split by data.fold"
    )


def test_changed_files_are_read_again(tmp_path: Path) -> None:
    write_original(tmp_path, DRAWN[:3])
    assert CKPlus(str(tmp_path), clips=True, crop=False).read().label.tolist() == [x.code for x in DRAWN[:3]]
    say(emotion(tmp_path, 1), "   6.000e+00\n")
    assert CKPlus(str(tmp_path), clips=True, crop=False).read().label[1] == 6
    frame(tmp_path, 2).unlink()
    assert (
        len(CKPlus(str(tmp_path), clips=True, last=None, crop=False).read().images)
        == sum(len(x.frames) for x in DRAWN[:3]) - 1
    )


# --- the command line -----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
def test_fit_refuses_fold_null(ck48: str, ferl: Callable[..., Path], tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SystemExit):
        ferl("fit", "--data=CKPlus", f"--data.root={ck48}", "--data.fold=null", *SMALL)
    assert "give a fold from 0 to 9 with --data.fold" in capsys.readouterr().err
    assert not list(tmp_path.rglob("config.yaml"))


# --- the real images ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(REAL is None, reason="the CK+ arrays are not here")
def test_the_real_ck48(tmp_path: Path) -> None:
    assert REAL is not None
    subprocess.run([sys.executable, str(REAL / "export.py"), "--layout", "ckplus48", str(tmp_path)], check=True)
    data = CKPlus(str(tmp_path))
    store = data.read()
    with np.load(REAL / "ckplus48.npz") as npz:
        np.testing.assert_array_equal(store.images, npz["pixels"])
        aliases = {"happy": "happiness"}
        names = [aliases.get(name, name) for name in npz["classes"][npz["emotion"]]]
        assert [CODES[code] for code in store.label] == names
        np.testing.assert_array_equal(store.subject, npz["subject"])
    assert (len(store), len(set(store.sequence)), len(set(store.subject))) == (768, 256, 94)
    assert Counter(CODES[code] for code in store.label) == {
        "anger": 108, "contempt": 42, "disgust": 141, "fear": 63, "happiness": 159, "sadness": 63, "surprise": 192,
    }  # fmt: skip
    assert set(np.diff(CKPlus(str(tmp_path), clips=True, last=None).read().start)) == {3}
    standard = [CKPlus(str(tmp_path), fold=fold) for fold in range(10)]
    tested = [set(x.raw.subject[x.items["test"]]) for x in standard]
    assert sorted(map(len, tested)) == [9] * 6 + [10] * 4 and len(set.union(*tested)) == 94
    for fold in range(10):
        stratified = CKPlus(str(tmp_path), fold=fold, folds_by="stratified_subject")
        assert stratified.notes("test") == [] and min(stratified.class_counts) > 0
    assert imbalance(stratified) < imbalance(standard[0])
