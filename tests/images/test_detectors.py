"""Detectors find a real face, YuNet as OpenCV's own reader of it does, and the fallback says that it is one."""

import logging
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferlightning import FerlError, Recognizer
from ferlightning.deploy.sources import Frame
from ferlightning.images.detectors import build_detector
from ferlightning.images.detectors.haar import Haar
from ferlightning.weights import find_weights
from tests.deploy.common import HOPPER, YUNET, Blobs, Brightness, hopper, needs_yunet, overlap


@pytest.mark.parametrize("name", [pytest.param("yunet", marks=needs_yunet), "mtcnn", "haar"])
def test_a_face_is_found_at_any_size_of_the_picture(name: str) -> None:
    detector = build_detector(name, YUNET if name == "yunet" else None)
    for scale in (1, 2):
        image = cv2.resize(hopper(), None, fx=scale, fy=scale).astype(np.uint8)
        (face,) = detector(image, 640, detector.min_score)
        assert overlap(tuple(v / scale for v in face.box), HOPPER) > 0.6
        if name != "haar":
            assert face.landmarks is not None
            left_eye, right_eye, nose, mouth_left, mouth_right = face.landmarks / scale
            assert np.abs(left_eye - [222, 191]).max() < 12 and np.abs(right_eye - [307, 190]).max() < 12
            assert left_eye[1] < nose[1] < min(mouth_left[1], mouth_right[1]) and mouth_left[0] < mouth_right[0]


@needs_yunet
def test_yunet_is_read_as_opencv_reads_it() -> None:
    image = hopper()[:576, :512]  # both sides a multiple of 32
    theirs = cv2.FaceDetectorYN.create(str(YUNET), "", (512, 576), 0.3, 0.3)
    _, expected = theirs.detect(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    found = build_detector(None, YUNET)(image, 640, 0.3)
    assert len(found) == len(expected) >= 1
    face, row = max(found, key=lambda face: face.score), max(expected, key=lambda row: row[-1])
    np.testing.assert_allclose([*face.box[:2], face.box[2] - face.box[0], face.box[3] - face.box[1]], row[:4], atol=0.1)
    np.testing.assert_allclose(face.landmarks, row[4:14].reshape(5, 2), atol=0.1)
    assert face.score == pytest.approx(row[-1], abs=1e-4)


def test_what_is_used_without_yunets_file_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FERL_CACHE", str(tmp_path))
    monkeypatch.setenv("FERL_WEIGHTS", "file:///nowhere")
    with caplog.at_level(logging.WARNING):
        assert type(build_detector()).__name__ == "Haar"
    assert "Haar" in caplog.text and "--detector-path" in caplog.text and len(caplog.records) == 1
    with pytest.raises(FerlError, match="file:///nowhere/face_detection_yunet_2026may.onnx"):
        build_detector("yunet")
    monkeypatch.setenv("FERL_CACHE", f"{__file__}/no-folder")  # nor can it be stored
    assert type(build_detector()).__name__ == "Haar"


@needs_yunet
def test_a_file_of_yunet_that_takes_one_size_alone_is_refused(tmp_path: Path) -> None:
    """As OpenCV's model zoo had it in 2023."""
    onnx = pytest.importorskip("onnx")
    model = onnx.load(YUNET)
    for side, pixels in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], (480, 640), strict=True):
        side.dim_value = pixels
    onnx.save(model, tmp_path / "fixed.onnx")
    with pytest.raises(FerlError, match="takes pictures of 480 x 640 pixels alone, .* expected one of any size"):
        build_detector("yunet", tmp_path / "fixed.onnx")


def test_a_detector_of_a_plug_in_may_build_on_another_one() -> None:
    class OfHaar(Haar):
        """Is there for its name."""

    assert type(build_detector("OfHaar")) is OfHaar


def test_mistakes_are_named(tmp_path: object) -> None:
    with pytest.raises(FerlError, match="no face detector 'yolo'; there are yunet, mtcnn, haar, none"):
        build_detector("yolo")
    with pytest.raises(FerlError, match="no file"):
        build_detector(path=f"{tmp_path}/no.onnx")
    with pytest.raises(FerlError, match="is not YuNet"):
        build_detector(path=find_weights("ferl-small.onnx"))


def test_detectors_of_others_go_by_the_name_of_their_class() -> None:
    assert isinstance(build_detector("Blobs"), Blobs)


def test_colours_in_the_wrong_order_are_noticed_once(caplog: pytest.LogCaptureFixture) -> None:
    left, top, right, bottom = HOPPER
    face = hopper()[top:bottom, left:right]
    recognizer = Recognizer(Brightness(), detector="none")
    recognizer(face)
    recognizer(face[:, :, ::-1], order="bgr")
    recognizer(face.mean(2).astype(np.uint8))
    assert not caplog.records
    for _ in range(2):
        recognizer(face[:, :, ::-1])
    assert len(caplog.records) == 1 and "order='bgr'" in caplog.text
    caplog.clear()
    recognizer = Recognizer(Brightness(), detector="none")
    for colours, records in ((face, 0), (face[:, :, ::-1], 1)):
        assert len([*recognizer.stream(Frame(colours, n, n / 30) for n in range(3))]) == 3
        assert len(caplog.records) == records
    assert "turn them: image[..., ::-1]" in caplog.text
