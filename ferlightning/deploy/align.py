"""``ferl data align``: photographs become faces as a network is trained on them."""

from ferlightning.deploy.annotate import write_picture
from ferlightning.deploy.pictures import as_rgb
from ferlightning.errors import FerlError, printable
from ferlightning.files import at_home
from ferlightning.images.crop import crop_face, level
from ferlightning.images.decode import is_pipe, list_images
from ferlightning.images.detectors import build_detector


def align(folder: str, out: str, size: int = 112, detector: str | None = None, upright: bool = True) -> None:
    """Cut the largest face out of a picture, or out of every one of a folder, as ``ferl recognize`` does.

    Pictures without a face, and files that cannot be read, are listed and left out; for the latter the
    status is 1.

    Args:
        folder: of photographs, at any depth, such as one with a folder for each class; or one picture.
        out: where the faces go, as PNG, in folders of the same names.
        size: of a face, in pixels.
        detector: yunet, mtcnn, haar, or a plug-in's class; null for yunet, or haar where yunet's file cannot be had.
        upright: turn each face so that its eyes are level, where the detector finds them.
    """
    home, target = at_home(folder), at_home(out)
    if not home.exists():
        raise FerlError(f"there is no file or folder {folder}")
    if is_pipe(home) and not home.is_dir():
        raise FerlError(f"{folder} is a pipe or device, expected a picture or a folder")
    pictures = list_images(home) if home.is_dir() else [home]
    if not pictures:
        raise FerlError(f"there is no picture in {folder}")
    home = home if home.is_dir() else home.parent
    if target.is_file():
        raise FerlError(f"{out} is a file; give the folder that gets the faces")
    if len(pictures) > 1 and target.resolve().is_relative_to(home.resolve()):
        raise FerlError(f"{out} is inside {folder}, whose pictures it would join: choose another folder")
    if size < 1:
        raise FerlError(f"size is {size}, expected a number of pixels from 1")
    find = build_detector(detector)
    left_out, unreadable = [], False
    for path in pictures:
        try:
            image = as_rgb(path)
        except FerlError as error:
            left_out.append(str(error))
            unreadable = True
            continue
        faces = find(image, 1280, find.min_score)
        if not faces:
            left_out.append(f"{path}: no face was found")
            continue
        face = max(faces, key=lambda face: face.box[3] - face.box[1])
        box = face.box
        if upright and face.landmarks is not None:
            image, box = level(image, box, face.landmarks)
        name = path.relative_to(home)
        write_picture(target / name.with_name(f"{name.name}.png"), crop_face(image, box, find.crop, size))
    print(f"{len(pictures) - len(left_out)} of {len(pictures)} pictures have a face, cut out in {out}")
    for line in left_out:
        print(f"  {printable(line)}")
    if unreadable:
        raise SystemExit(1)
