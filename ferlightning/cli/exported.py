"""``ferl predict MODEL.onnx FACES``: an exported model, which needs no torch."""

from collections.abc import Sequence
from pathlib import Path

from ferlightning.cli.run_folder import choose, remove_if_empty
from ferlightning.cli.words import options
from ferlightning.errors import FerlError
from ferlightning.images.decode import decode_image, list_images
from ferlightning.predictions import REPLACED, Predictions, summary

TAKEN = ("name", "trainer.default_root_dir", "quiet")


def predict(words: Sequence[str], model: str, places: Sequence[str]) -> Path:
    """Write what an exported model says of faces that were cut out, as for a checkpoint.

    Args:
        words: the command with its options.
        model: the file, or a name of shipped weights that ends in ``.onnx``.
        places: pictures and folders of pictures.

    Returns:
        The file of predictions.

    Raises:
        FerlError: there is nothing to predict, or some of it cannot be read; the rest is written.
    """
    from ferlightning.deploy.recognizer import Recognizer

    for name, _, _ in options(words[1:]):
        if name not in TAKEN:
            raise FerlError(f"--{name} is not for an exported model; ferl predict takes --{', --'.join(TAKEN)} with it")
    if not places:
        raise FerlError("ferl predict needs images; give their paths, or those of folders")
    recognizer = Recognizer(model, detector="none")
    files = [
        (path, str(path if len(places) > 1 else path.relative_to(place) if place.is_dir() else path.name))
        for place in map(Path, places)
        for path in (list_images(place) if place.is_dir() else [place])
    ]
    names, faces, unreadable = [], [], []
    for path, name in files:
        try:
            faces.append(decode_image(path, recognizer.model.color))
        except FerlError as error:
            unreadable.append(str(error))
        else:
            names.append(name)
    if not faces:
        what = f"none can be read: {unreadable[0]}" if unreadable else f"there are none in {', '.join(places)}"
        raise FerlError(f"ferl predict needs images; {what}")
    folder, made = choose(words, model)
    path = folder / "predictions.csv"
    replaced = path.exists()
    try:
        found = recognizer.predict(faces)
        Predictions(names, found.class_names, found.probabilities).to_csv(path)
        print(summary(names, found.probabilities, found.class_names))
    finally:
        if made:
            remove_if_empty(folder)
    print(f"Predictions: {path}{REPLACED * replaced}")
    if unreadable:
        raise FerlError(f"{len(unreadable)} image(s) were left out: " + "; ".join(unreadable))
    return path
