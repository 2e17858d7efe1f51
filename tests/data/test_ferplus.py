"""FER+: labels and targets against the rules of its authors written out, every layout, and votes of other images."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ferlightning import load
from ferlightning.data import FERPlus
from ferlightning.data.sources.ferplus import majority_label, vote_shares
from ferlightning.errors import FerlError
from tests.conftest import SMALL
from tests.data.fer2013_layouts import (
    FER2013_CLASSES,
    VOTES,
    Drawn,
    draw,
    write_challenge,
    write_csv,
    write_folders,
    write_icml,
    write_png,
    write_votes,
)

REAL = Path(os.environ["FERL_REAL_DATA"]) if "FERL_REAL_DATA" in os.environ else None
Ferl = Callable[..., Path]
Write = Callable[[Path, Drawn], None]
BESIDE: dict[str, Write] = {
    "csv": write_csv,
    "icml": write_icml,
    "challenge": write_challenge,
    "folders": lambda folder, drawn: write_folders(folder, drawn, ("train", "test", "test"), by_usage=True),
}


def official_majority(votes: list[int]) -> int:
    """The rule of the authors' script in plain words, for one image; -1 where the image is left out."""
    counted = [n if n > 1 else 0 for n in votes]
    most = max(counted)
    if most <= 0.5 * sum(counted):
        return -1
    best = counted.index(most)
    return best if best < 8 else -1


# --- labels ---------------------------------------------------------------------------------------------------------


def test_the_majority_by_hand() -> None:
    votes, labels = zip(
        ([10, 0, 0, 0, 0, 0, 0, 0, 0, 0], 0),
        ([0, 0, 0, 0, 0, 0, 0, 8, 1, 1], 7),
        ([5, 5, 0, 0, 0, 0, 0, 0, 0, 0], -1),  # a half is not more than half
        ([5, 0, 0, 4, 1, 0, 0, 0, 0, 0], 0),  # 5 of 9, since the single vote does not count
        ([4, 0, 0, 2, 0, 0, 0, 0, 2, 2], -1),  # unknown and no-face count among the votes
        ([3, 0, 0, 0, 0, 0, 0, 0, 7, 0], -1),  # unknown wins
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 10], -1),
        ([1, 1, 1, 1, 1, 1, 1, 1, 1, 1], -1),
        ([0, 0, 0, 0, 0, 0, 0, 0, 0, 0], -1),
        strict=True,
    )
    assert majority_label(np.array(votes, np.uint8)).tolist() == list(labels)


def test_the_majority_of_random_votes() -> None:
    votes = np.random.default_rng(0).multinomial(10, [0.3, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05], 3000)
    found = majority_label(votes.astype(np.uint8))
    assert found.tolist() == [official_majority(row) for row in votes.tolist()]
    assert 100 < (found < 0).sum() < 2900


def test_shares_are_of_the_eight_emotions_without_single_votes() -> None:
    votes = np.array([[6, 0, 0, 2, 1, 0, 0, 0, 1, 0], [0] * 9 + [10]], np.uint8)
    np.testing.assert_allclose(vote_shares(votes), [[0.75, 0, 0, 0.25, 0, 0, 0, 0], [0] * 8])


# --- layouts --------------------------------------------------------------------------------------------------------


def expected(drawn: Drawn) -> list[tuple[object, ...]]:
    labels = [official_majority(row) for row in drawn.votes.tolist()]
    rows = zip(drawn.images, drawn.votes, drawn.usage, labels, strict=True)
    return sorted((image.tobytes(), tuple(votes), int(usage), label) for image, votes, usage, label in rows)


def read(data: FERPlus) -> list[tuple[object, ...]]:
    raw = data.raw
    rows = zip(raw.images, raw.votes, raw.split, raw.label, strict=True)
    return sorted((image.tobytes(), tuple(map(int, votes)), int(split), int(k)) for image, votes, split, k in rows)


@pytest.mark.parametrize(("layout", "usages"), [*((layout, 3) for layout in BESIDE), ("challenge", 2)])
def test_votes_beside_every_layout_of_fer2013(tmp_path: Path, layout: str, usages: int) -> None:
    drawn = draw(usages)
    BESIDE[layout](tmp_path, drawn)
    write_votes(tmp_path, drawn)
    data = FERPlus(str(tmp_path))
    assert read(data) == expected(drawn)
    kept = np.array([label >= 0 for *_, label in sorted(expected(drawn))])
    assert sum(len(data.items[split]) for split in ("train", "val", "test")[:usages]) == kept.sum()  # type: ignore[index]
    assert f"left out {(~kept).sum()} of {len(kept)} images" in data.notes("val")[-1]


def test_folders_of_images(tmp_path: Path) -> None:
    drawn = draw()
    write_png(tmp_path, drawn)
    faces = drawn.votes[:, 9] < 10
    assert read(FERPlus(str(tmp_path))) == expected(Drawn(*(column[faces] for column in drawn)))
    assert FERPlus(str(tmp_path)).raw.name[0] == "FER2013Train/fer0000000.png"


def test_the_box_is_cut_out(tmp_path: Path) -> None:
    drawn = draw()
    write_png(tmp_path, drawn)
    large = np.zeros((100, 120), np.uint8)
    large[20:68, 30:78] = drawn.images[0]
    cv2.imwrite(str(tmp_path / "FER2013Train" / "fer0000000.png"), large)
    labels = tmp_path / "FER2013Train" / "label.csv"
    labels.write_text(labels.read_text().replace("(0, 0, 48, 48)", "(30, 20, 78, 68)", 1))
    np.testing.assert_array_equal(FERPlus(str(tmp_path)).raw.images[0], drawn.images[0])
    labels.write_text(labels.read_text().replace("(30, 20, 78, 68)", "(90, 20, 138, 68)", 1))
    with pytest.raises(FerlError, match=r"fer0000000.png: the box \(90, 20, 138, 68\) is not inside"):
        FERPlus(str(tmp_path)).read()


# --- targets --------------------------------------------------------------------------------------------------------


def with_votes(tmp_path: Path, **options: object) -> FERPlus:
    """Training images whose votes are 6 for the own emotion, 3 for the next and 1 for the one after."""
    drawn = draw()
    votes = np.zeros_like(drawn.votes)
    rows = np.arange(len(votes))
    for share, step in ((6, 0), (3, 1), (1, 2)):
        column = np.array([VOTES.index(name) for name in FER2013_CLASSES])[(drawn.emotion + step) % 7]
        votes[rows, column] = share
    write_csv(tmp_path, drawn)
    write_votes(tmp_path, drawn._replace(votes=votes))
    return FERPlus(str(tmp_path), batch_size=28, classes=FER2013_CLASSES, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "own", "next_one"),
    [("cross_entropy", 2 / 3, 1 / 3), ("multi_target", 0.5, 0.5), ("probability", 2 / 3, 1 / 3)],
)
def test_soft_targets_are_for_training_only(tmp_path: Path, target: str, own: float, next_one: float) -> None:
    data = with_votes(tmp_path, target=target)
    (batch,) = data.train_dataloader()
    majority = torch.from_numpy(data.label[data.items["train"]])[batch["index"]]
    rows = torch.arange(28)
    assert batch["label"].shape == (28, 7)
    torch.testing.assert_close(batch["label"][rows, majority], torch.full((28,), own))
    torch.testing.assert_close(batch["label"][rows, (majority + 1) % 7], torch.full((28,), next_one))
    for loader in (data.val_dataloader(), data.test_dataloader()):
        assert all(batch["label"].ndim == 1 for batch in loader)


def test_the_majority_is_an_index(tmp_path: Path) -> None:
    (batch,) = with_votes(tmp_path).train_dataloader()
    assert batch["label"].shape == (28,)


def test_probability_draws_a_label_each_time(tmp_path: Path) -> None:
    data = with_votes(tmp_path, target="probability")
    (batch,) = data.train_dataloader()
    majority = torch.from_numpy(data.label[data.items["train"]])[batch["index"]]
    torch.manual_seed(0)
    drawn = torch.stack([data.on_after_batch_transfer(dict(batch), 0)["label"] for _ in range(300)])
    assert drawn.dtype == torch.int64
    assert (drawn == majority).float().mean() == pytest.approx(2 / 3, abs=0.02)
    assert ((drawn == majority) | (drawn == (majority + 1) % 7)).all()


def test_seven_classes_leave_contempt_out_and_say_so(tmp_path: Path) -> None:
    drawn = draw()
    contempt = np.flatnonzero(drawn.emotion == 0)
    drawn.votes[contempt] = [0, 0, 0, 0, 0, 0, 0, 10, 0, 0]
    write_csv(tmp_path, drawn)
    write_votes(tmp_path, drawn)
    eight = FERPlus(str(tmp_path))
    assert eight.class_names == VOTES[:8] and eight.class_counts[7] == 4
    seven = FERPlus(str(tmp_path), classes=["neutral", "happy", "surprise", "sad", "angry", "disgust", "fear"])
    assert len(seven.items["train"]) == len(eight.items["train"]) - 4 and seven.class_names == [*VOTES[:7]]
    assert any("6 contempt" in note for note in seven.notes("test"))


# --- bad ones -------------------------------------------------------------------------------------------------------


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    drawn = draw()
    write_csv(tmp_path, drawn)
    write_votes(tmp_path, drawn)
    return tmp_path / "fer2013new.csv"


def edit(path: Path, line: int, change: Callable[[str], str]) -> None:
    lines = path.read_text().splitlines()
    lines[line - 1] = change(lines[line - 1])
    path.write_text("".join(f"{text}\n" for text in lines if text))


@pytest.mark.parametrize(
    ("line", "change", "message"),
    [
        (1, lambda text: text.replace("neutral", "calm"), "the first line is 'Usage,Image name,calm"),
        (5, lambda text: text.rsplit(",", 1)[0], "line 5: expected two columns and ten votes, found 'Training,fer"),
        (5, lambda text: text[:-1] + "-1", "line 5: expected two columns and ten votes"),
        (5, lambda text: text[:-1] + "300", "line 5: expected two columns and ten votes"),
        (5, lambda text: text[:-1] + "2.5", "line 5: expected two columns and ten votes"),
        (5, lambda text: text[:-1] + "0_3", "line 5: expected two columns and ten votes"),
        (5, lambda text: text[:-1] + "٣", "line 5: expected two columns and ten votes"),
        (5, lambda text: text.replace("fer", '"fer'), "line 5: a quote is not closed"),
        (7, lambda text: text.replace("Training", "Train"), "line 7: Usage is 'Train', expected one of Training"),
        (7, lambda text: text.replace("Training", "PublicTest"), "not aligned .* [28, 7, 7] among the images"),
        (7, lambda text: "", "not aligned .* are [27, 7, 7] in it and [28, 7, 7] among the images"),
        (43, lambda text: f"{text}\n{text}", "not aligned .* are [28, 7, 8] in it and [28, 7, 7] among the images"),
    ],
)
def test_a_bad_csv_of_votes(beside: Path, line: int, change: Callable[[str], str], message: str) -> None:
    edit(beside, line, change)
    with pytest.raises(FerlError) as error:
        FERPlus(str(beside.parent)).read()
    first, _, second = message.partition(" .* ")
    assert str(beside) in str(error.value) and first in str(error.value) and second in str(error.value)


@pytest.mark.parametrize("layout", ["csv", "folders"])
def test_votes_of_other_rows_are_refused(tmp_path: Path, layout: str) -> None:
    """As Kaggle's folders, whose numbers are no rows: only that labels and votes disagree tells."""
    drawn = draw()
    order = np.lexsort((np.random.default_rng(0).random(42), drawn.usage))
    BESIDE[layout](tmp_path, drawn)
    write_votes(tmp_path, drawn._replace(votes=drawn.votes[order]))
    with pytest.raises(
        FerlError, match=r"not aligned with the images beside it: its majority votes agree with only \d+ %"
    ):
        FERPlus(str(tmp_path)).read()


def test_folders_not_named_by_row_cannot_have_votes(tmp_path: Path) -> None:
    drawn = draw()
    write_folders(tmp_path, drawn, ("train", "val", "test"), by_usage=False)
    write_votes(tmp_path, drawn)
    with pytest.raises(FerlError, match="not named by usage and row, such as Training_123.jpg"):
        FERPlus(str(tmp_path)).read()


def test_votes_without_images_and_images_without_votes(beside: Path) -> None:
    (beside.parent / "fer2013.csv").rename(beside.parent / "elsewhere.txt")
    with pytest.raises(FerlError, match=r"FER\+: not found; .*fer2013new.csv beside fer2013.csv"):
        FERPlus(str(beside.parent)).read()
    (beside.parent / "elsewhere.txt").rename(beside.parent / "fer2013.csv")
    beside.unlink()
    with pytest.raises(FerlError, match=r"FER\+: not found"):
        FERPlus(str(beside.parent)).read()


def test_bad_folders_of_images(tmp_path: Path) -> None:
    write_png(tmp_path, draw())
    labels, image = tmp_path / "FER2013Valid" / "label.csv", tmp_path / "FER2013Valid" / "fer0000029.png"
    text = labels.read_text()
    labels.write_text(text.replace("(0, 0, 48, 48)", "0 0 48 48", 1))
    with pytest.raises(FerlError, match="label.csv, line 1: the box is '0 0 48 48', expected one such as"):
        FERPlus(str(tmp_path)).read()
    labels.write_text(text)
    image.rename(tmp_path / "moved.png")
    with pytest.raises(FerlError, match="label.csv, line 2: there is no image .*fer0000029.png"):
        FERPlus(str(tmp_path)).read()
    image.write_bytes(b"no image")
    with pytest.raises(FerlError, match="fer0000029.png: cannot be read as an image"):
        FERPlus(str(tmp_path)).read()
    (tmp_path / "moved.png").rename(image)
    labels.write_text("".join(text.splitlines(keepends=True)[1:]))
    assert FERPlus(str(tmp_path)).raw.remarks[0].startswith("1 images in FER2013Valid have no row")
    labels.unlink()
    with pytest.raises(FerlError, match="FER2013Valid: has no label.csv"):
        FERPlus(str(tmp_path)).read()


def test_names_that_leave_the_folder_are_refused(tmp_path: Path) -> None:
    root, outside = tmp_path / "data", tmp_path / "out" / "x.png"
    root.mkdir()
    outside.parent.mkdir()
    write_png(root, draw())
    folder = root / "FER2013Train"
    labels, image = folder / "label.csv", folder / "fer0000000.png"
    text = labels.read_text()
    cv2.imwrite(str(outside), np.zeros((48, 48), np.uint8))
    for name in (
        "../../out/x.png",
        str(outside),
        "a/../../../out/x.png",
        "..\\..\\out\\x.png",
        "C:\\x.png",
        "link/x.png",
    ):
        if name == "link/x.png":
            (folder / "link").symlink_to(outside.parent)
        labels.write_text(text.replace("fer0000000.png", name))
        with pytest.raises(FerlError, match="label.csv, line 1: the image '.*x.png' is outside of"):
            FERPlus(str(root)).read()
    (folder / "link").unlink()
    labels.write_text(text)
    image.unlink()
    image.symlink_to(outside)
    with pytest.raises(FerlError, match="label.csv, line 1: the image 'fer0000000.png' is outside of"):
        FERPlus(str(root)).read()
    outside.rename(root / "x.png")  # a link within the data is followed, and so is one to the whole folder
    image.unlink()
    image.symlink_to(root / "x.png")
    folder.rename(tmp_path / "moved")
    folder.symlink_to(tmp_path / "moved")
    assert (FERPlus(str(root)).raw.images[0] == 0).all()
    labels.write_text(text.replace("fer0000000.png", "x" * 100_000))
    with pytest.raises(FerlError, match="label.csv, line 1: there is no image"):
        FERPlus(str(root)).read()


def test_labels_in_other_encodings_and_with_huge_cells(tmp_path: Path) -> None:
    write_png(tmp_path, draw())
    labels = tmp_path / "FER2013Train" / "label.csv"
    text, wanted = labels.read_text(), read(FERPlus(str(tmp_path)))
    semicolons = re.sub(r",(?! )", ";", text)
    for good in (text.encode("utf-16"), text.encode("utf-8-sig"), semicolons.encode(), b"\n" + text.encode() + b"\n"):
        labels.write_bytes(good)
        assert read(FERPlus(str(tmp_path))) == wanted
    labels.write_text(f"Image name,Box,{','.join(VOTES)}\n{text}")
    assert read(FERPlus(str(tmp_path))) == wanted
    for bad, message in (
        (text.encode() + b"\xe9\n", r"line 28: b'\\xe9\\n' is not in UTF-8. Save the file as UTF-8"),
        (text.replace("(0, 0, 48, 48)", "9" * 200_000, 1).encode(), "line 1: the box is '9{80}', expected"),
        (text.replace("48", "٤٨", 1).encode(), "line 1: the box is"),
        (text.encode() + b"\0" * 100, "line 28: a null byte"),
    ):
        labels.write_bytes(bad)
        with pytest.raises(FerlError, match=f"label.csv, {message}"):
            FERPlus(str(tmp_path)).read()


# --- the real votes -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(REAL is None, reason="the FER2013 arrays are not here")
def test_the_official_filter_keeps_what_its_authors_say() -> None:
    """25,060 for training and 3,199 for validation, as published; the arrays here have no test part."""
    assert REAL is not None
    kept = {}
    for file in ("fer2013_train.npz", "fer2013_public.npz"):
        with np.load(REAL / file) as npz:
            kept[file] = int((majority_label(npz["votes"]) >= 0).sum())
    assert kept == {"fer2013_train.npz": 25_060, "fer2013_public.npz": 3_199}


@pytest.mark.skipif(REAL is None, reason="the FER2013 arrays are not here")
@pytest.mark.parametrize("layout", ["csv", "folders", "png"])
def test_real_votes_survive_the_layout(tmp_path: Path, layout: str) -> None:
    assert REAL is not None
    names = {"csv": ["fer2013-csv", "ferplus-csv"], "folders": ["folders", "ferplus-csv"], "png": ["ferplus-png"]}[
        layout
    ]
    words = [word for name in names for word in ("--layout", name)]
    subprocess.run([sys.executable, str(REAL / "export.py"), *words, "--limit", "300", str(tmp_path)], check=True)
    data = FERPlus(str(tmp_path), layout=layout)
    for split, file in ((0, "fer2013_train.npz"), (1, "fer2013_public.npz")):
        with np.load(REAL / file) as npz:
            votes, image, pixels = npz["votes"][:300], npz["image"][:300], npz["pixels"][:300]
        mine = np.flatnonzero(data.raw.split == split)
        keep = image >= 0 if layout == "png" else np.full(300, True)
        order = np.argsort(image[keep], kind="stable") if layout == "png" else np.arange(300)
        if layout == "folders":
            mine = mine[
                np.argsort([int(Path(str(name).split()[0]).stem.split("_")[1]) for name in data.raw.name[mine]])
            ]
            assert np.abs(data.raw.images[mine].astype(int) - pixels).mean() < 2
        else:
            np.testing.assert_array_equal(data.raw.images[mine], pixels[keep][order])
        np.testing.assert_array_equal(data.raw.votes[mine], votes[keep][order])


@pytest.mark.parametrize("layout", [*BESIDE])
def test_own_labels_of_fer2013_stand_beside_the_votes(tmp_path: Path, layout: str) -> None:
    """Images that FER+ leaves out are kept for training, unless they are blank, and have no label of FER+."""
    drawn = draw()
    images, votes = drawn.images.copy(), drawn.votes.copy()
    images[0] = 7  # blank
    votes[1:6] = [0, 0, 0, 5, 5, 0, 0, 0, 0, 0]  # no majority
    drawn = drawn._replace(images=images, votes=votes)
    BESIDE[layout](tmp_path, drawn)
    write_votes(tmp_path, drawn)
    data = FERPlus(str(tmp_path), target="cross_entropy", fer2013_labels=True, batch_size=4)
    seen = {}
    for batch in data.train_dataloader():
        for image, label, own in zip(batch["image"], batch["label"], batch["label_fer2013"], strict=True):
            seen[image.numpy().tobytes()] = (float(label.sum()), own.argmax().item(), float(own.sum()))
    rows = zip(drawn.images, drawn.votes.tolist(), drawn.emotion, drawn.usage, strict=True)
    expected = {
        image.tobytes(): (float(official_majority(votes) >= 0), int(own), 1.0)
        for image, votes, own, usage in rows
        if usage == 0 and image.min() < image.max()
    }
    assert seen == {key: pytest.approx(value) for key, value in expected.items() if key in seen}
    assert len(expected) - len(seen) < 4  # what the last batch dropped
    assert {round(value[0], 5) for value in seen.values()} == {0, 1}
    assert "label_fer2013" not in next(iter(data.val_dataloader()))


def test_own_labels_of_fer2013_need_shares_and_its_files(tmp_path: Path) -> None:
    with pytest.raises(FerlError, match="needs data.target=cross_entropy, not majority"):
        FERPlus(str(tmp_path), fer2013_labels=True)
    with pytest.raises(FerlError, match="balanced_sampling draws by class, and with data.fer2013_labels some"):
        FERPlus(str(tmp_path), target="cross_entropy", fer2013_labels=True, balanced_sampling=True)
    write_png(tmp_path, draw())
    with pytest.raises(FerlError, match="has no labels of FER2013; use another layout"):
        _ = FERPlus(str(tmp_path), target="cross_entropy", fer2013_labels=True).items


def test_a_model_of_both_label_sets_is_tested_on_either_whatever_its_losses_were(tmp_path: Path, ferl: Ferl) -> None:
    """Its losses know the eight classes of FER+: a teacher's logits, and a centre for each."""
    drawn = draw()
    drawn.votes[np.flatnonzero(drawn.usage == 0)[:2]] = [0, 0, 0, 0, 0, 0, 0, 10, 0, 0]  # contempt
    write_csv(tmp_path, drawn)
    write_votes(tmp_path, drawn)
    run = ferl(
        "fit", "--data=FERPlus", f"--data.root={tmp_path}", "--data.target=cross_entropy", "--data.fer2013_labels=true",
        "--data.batch_size=4", *SMALL, "--model.losses=[CrossEntropy, CenterLoss, AuxiliaryHead, Distillation]",
        "--model.losses.teacher=ferl-small", "--model.losses.weight=0.5", "--trainer.max_epochs=1",
    )  # fmt: skip
    own = ["--data=FER2013", f"--data.root={tmp_path}", "--trainer.precision=32-true"]
    ferl("validate", str(run), *own, "--trainer.default_root_dir=own")
    network = load(run / "checkpoints" / "best.ckpt", view="fer2013")
    images = torch.from_numpy(drawn.images[drawn.usage == 1])
    with torch.inference_mode():
        said = network(images[:, None, None] / 255).logits.argmax(1)
    right = [network.class_names[i] for i in said] == np.array(FER2013_CLASSES)[drawn.emotion[drawn.usage == 1]]
    report = json.loads(Path("own", "report_val", "metrics.json").read_text())
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(np.mean(right))
