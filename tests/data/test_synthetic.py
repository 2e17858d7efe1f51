from dataclasses import fields

import numpy as np
import pytest
from numpy.typing import NDArray

from ferlightning.data.sources.synthetic.datamodule import draw_faces
from ferlightning.data.sources.synthetic.drawing import EXPRESSIONS
from ferlightning.data.store import Store
from ferlightning.emotions import EMOTIONS
from ferlightning.errors import FerlError


def mouth(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The region of the mouth, with room for pose, over its mean. Shape: (F, S, S) -> (F, S', S'')."""
    size = images.shape[-1]
    crop = images[:, round(0.62 * size) : round(0.9 * size), round(0.3 * size) : round(0.7 * size)].astype(np.float64)
    relative: NDArray[np.float64] = crop / crop.mean((1, 2), keepdims=True)
    return relative


def test_there_is_a_table_for_every_emotion() -> None:
    assert set(EXPRESSIONS) == set(EMOTIONS)


@pytest.mark.parametrize("frames", [None, (3, 5)])
def test_equal_arguments_give_equal_bytes(frames: tuple[int, int] | None) -> None:
    first = draw_faces(EMOTIONS, 4, 3, seed=5, frames=frames)
    second = draw_faces(EMOTIONS, 4, 3, seed=5, frames=frames)
    for field in fields(Store):
        one, other = getattr(first, field.name), getattr(second, field.name)
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def test_the_seed_changes_subjects_and_pictures() -> None:
    one, other = draw_faces(EMOTIONS, 3, 3, seed=0), draw_faces(EMOTIONS, 3, 3, seed=1)
    assert all((a != b).mean() > 0.5 for a, b in zip(one.images, other.images, strict=True))


def test_more_clips_keep_the_pictures_of_fewer() -> None:
    few, many = draw_faces(EMOTIONS, 4, 4), draw_faces(EMOTIONS, 8, 4)
    np.testing.assert_array_equal(few.images, many.images[: len(few)])


@pytest.mark.parametrize("size", [32, 48, 96])
def test_stills_have_one_grey_frame_each(size: int) -> None:
    store = draw_faces(["happy", "neutral"], 5, 4, size=size)
    assert store.images.shape == (10, size, size)
    assert (store.images.dtype, store.start.dtype) == (np.dtype("uint8"), np.dtype("int64"))
    assert (store.label.dtype, store.split.dtype) == (np.dtype("int64"), np.dtype("int8"))
    np.testing.assert_array_equal(store.start, np.arange(11))
    assert len(set(store.name)) == 10
    assert (store.images.std((1, 2)) > 5).all()


@pytest.mark.parametrize(("clips", "subjects"), [(3, 3), (5, 20), (40, 20), (21, 10)])
def test_splits_share_no_subject_and_hold_every_class(clips: int, subjects: int) -> None:
    store = draw_faces(EMOTIONS, clips, subjects, size=24)
    people = [set(store.subject[store.split == split]) for split in range(3)]
    assert sum(map(len, people)) == len(set.union(*people)) == min(clips, subjects)
    for split in range(3):
        assert set(store.label[store.split == split]) == set(range(len(EMOTIONS)))
    np.testing.assert_array_equal(np.bincount(store.label), clips)
    for person in set(store.subject):
        count = np.bincount(store.label[store.subject == person], minlength=len(EMOTIONS))
        assert count.min() > 0 and count.max() - count.min() <= 1


def test_about_seventy_percent_of_the_subjects_train() -> None:
    store = draw_faces(["neutral"], 40, 40, size=24)
    np.testing.assert_array_equal(np.bincount(store.split), [28, 6, 6])


def test_clips_have_every_length_in_the_range() -> None:
    store = draw_faces(["surprise", "anger"], 30, 3, frames=(4, 7), size=24)
    assert set(np.diff(store.start)) == {4, 5, 6, 7}
    assert store.start[0] == 0 and store.start[-1] == len(store.images)


def test_a_clip_runs_from_neutral_to_apex() -> None:
    store = draw_faces(["surprise", "neutral"], 40, 10, frames=(6, 6))
    crops = mouth(store.images).reshape(len(store), 6, -1)
    # An open mouth is the darkest thing there; a low percentile sees it wherever the pose puts it.
    dark = np.percentile(crops, 8, axis=2) / np.median(crops, axis=2)
    surprise, neutral = dark[store.label == 0].mean(0), dark[store.label == 1].mean(0)
    assert abs(surprise[0] - neutral[0]) < 0.1
    assert surprise[-1] < neutral[-1] - 0.2
    assert (np.diff(surprise) < 0.02).all()
    change = np.abs(crops - crops[:, :1]).mean((0, 2))
    assert change[-1] > change[1]


def test_a_smile_lifts_the_corners_that_a_frown_lowers() -> None:
    store = draw_faces(["happiness", "sadness"], 100, 40)
    crops = store.images[:, 30:43].astype(np.float64)
    # The line of the mouth is the darkest row there; left and right are averaged, so that a rolled head cancels.
    left, middle, right = (crops[:, :, x : x + 2].mean(2).argmin(1) for x in (18, 23, 28))
    lower = (left + right) / 2 - middle
    smile, frown = lower[store.label == 0].mean(), lower[store.label == 1].mean()
    assert smile < frown - 1, (smile, frown)


def test_contempt_is_of_one_side() -> None:
    store = draw_faces(["contempt", "neutral"], 300, 40)
    crops = mouth(store.images)
    asymmetry = np.abs(crops - crops[:, :, ::-1]).mean((1, 2))
    contempt, neutral = asymmetry[store.label == 0].mean(), asymmetry[store.label == 1].mean()
    assert contempt > 1.05 * neutral, (contempt, neutral)


def test_unknown_class_is_refused_with_the_known_ones() -> None:
    with pytest.raises(FerlError, match=r"'wink'.*anger.*contempt"):
        draw_faces(["anger", "wink"], 3, 3)


@pytest.mark.parametrize(("clips", "subjects"), [(10, 2), (2, 10)])
def test_fewer_than_three_subjects_are_refused(clips: int, subjects: int) -> None:
    with pytest.raises(FerlError, match="at least 3 subjects"):
        draw_faces(EMOTIONS, clips, subjects)
