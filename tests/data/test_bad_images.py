"""Images of the published data sets that are missing or cannot be read: all are named, or left out and counted."""

from pathlib import Path

import numpy as np
import pytest

from ferlightning.data import FER2013, CKPlus, FERPlus
from ferlightning.data.store import Store
from ferlightning.errors import FerlError
from tests.data.ckplus_layouts import DRAWN, write_ck48, write_original
from tests.data.fer2013_layouts import draw, write_folders, write_png, write_votes


def spoil(root: Path, names: list[str]) -> None:
    """Make files that are no images."""
    for name in names:
        (path,) = root.rglob(name)
        path.write_bytes(b"<html>")


def check_rest(rest: Store, whole: Store, gone: int) -> None:
    """What is left has the images, labels, splits, subjects and votes that it has in the whole data."""
    number = {name: n for n, name in enumerate(whole.name.tolist())}
    items = [number[name] for name in rest.name.tolist()]
    assert len(items) == len(whole) - gone and items == sorted(items)
    for field in ("label", "split", "subject", "sequence", "votes"):
        np.testing.assert_array_equal(getattr(rest, field), getattr(whole, field)[items])
    if len(rest.images) == len(rest):  # stills
        np.testing.assert_array_equal(rest.images, whole.images[items])
    assert any(f"{gone} of {len(whole):,} images cannot be read and were left out: " in x for x in rest.remarks)


def test_fer2013_in_folders_and_the_votes_beside_them(tmp_path: Path) -> None:
    drawn = draw()
    write_folders(tmp_path, drawn, ("train", "test", "test"), by_usage=True)
    write_votes(tmp_path, drawn)
    root = str(tmp_path)
    whole, voted = FER2013(root).raw, FERPlus(root).raw
    spoil(tmp_path, ["Training_3.png", "PublicTest_*29.png"])
    for kind in (FER2013, FERPlus):
        with pytest.raises(
            FerlError, match=r"2 of \d+ images cannot be read: .*\.png, .*\.png\. First: .*bad_image=sk"
        ):
            _ = kind(root).raw
    check_rest(FER2013(root, on_bad_image="skip").raw, whole, 2)
    check_rest(FERPlus(root, on_bad_image="skip").raw, voted, 2)
    both = FERPlus(root, on_bad_image="skip", fer2013_labels=True, target="cross_entropy")
    own = FER2013(root, on_bad_image="skip")
    assert both.other_labels()["fer2013"].argmax(1).tolist() == own.raw.label.tolist()


def test_ferplus_of_its_own_script(tmp_path: Path) -> None:
    write_png(tmp_path, draw())
    whole = FERPlus(str(tmp_path)).raw
    spoil(tmp_path, ["fer0000003.png"])
    (tmp_path / "FER2013Valid" / "fer0000029.png").unlink()
    with pytest.raises(FerlError, match=r"2 of \d+ images cannot be read: .*0003.png, .*0029.png.*on_bad_image=skip"):
        _ = FERPlus(str(tmp_path)).raw
    check_rest(FERPlus(str(tmp_path), on_bad_image="skip").raw, whole, 2)


def test_ckplus_stills(tmp_path: Path) -> None:
    write_ck48(tmp_path)
    whole = CKPlus(str(tmp_path)).raw
    spoil(tmp_path, [DRAWN[0].file(len(DRAWN[0].frames) - 1), DRAWN[5].file(len(DRAWN[5].frames) - 2)])
    with pytest.raises(FerlError, match=r"2 of \d+ images cannot be read: .*on_bad_image=skip"):
        _ = CKPlus(str(tmp_path)).raw
    check_rest(CKPlus(str(tmp_path), on_bad_image="skip").raw, whole, 2)


def test_ckplus_clips_go_on_without_their_bad_frames(tmp_path: Path) -> None:
    write_original(tmp_path)
    options = {"clips": True, "last": 3, "crop": False}
    whole = CKPlus(str(tmp_path), **options).raw  # type: ignore[arg-type]
    one, all_of, no_folder = DRAWN[0], DRAWN[5], DRAWN[9]
    spoil(tmp_path, [one.file(len(one.frames) - 2), *(all_of.file(t) for t in range(len(all_of.frames)))])
    folder = tmp_path / "cohn-kanade-images" / no_folder.subject / no_folder.number
    for path in folder.glob("*.png"):
        path.unlink()
    with pytest.raises(FerlError, match="no frames in this folder.*on_bad_image=skip"):
        _ = CKPlus(str(tmp_path), **options).raw  # type: ignore[arg-type]
    rest = CKPlus(str(tmp_path), on_bad_image="skip", **options).raw  # type: ignore[arg-type]
    lengths = dict(zip(rest.name.tolist(), np.diff(rest.start).tolist(), strict=True))
    assert lengths == {name: 3 - (name == one.name) for name in whole.name.tolist() if name in lengths}
    assert set(whole.name.tolist()) - set(lengths) == {all_of.name, no_folder.name}
    np.testing.assert_array_equal(rest.images[:2], one.frames[[-3, -1]])
    assert rest.remarks[0] == f"1 sequences have an emotion and no images, and were left out: {no_folder.name}."
    assert rest.remarks[1].startswith("4 of ")


def test_ckplus_searches_the_face_in_the_next_frame_that_can_be_read(tmp_path: Path) -> None:
    write_original(tmp_path)
    whole = CKPlus(str(tmp_path)).raw
    spoil(tmp_path, [x.file(0) for x in DRAWN[:2] if len(x.frames) > 3])
    with pytest.raises(FerlError, match="frames cannot be read in which the face is searched for. First: .*=skip"):
        _ = CKPlus(str(tmp_path)).raw
    rest = CKPlus(str(tmp_path), on_bad_image="skip").raw
    assert rest.name.tolist() == whole.name.tolist()
    assert "so the face was searched for in the ones after them." in rest.remarks[-1]
