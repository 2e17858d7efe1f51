"""The class vocabulary: one name for each emotion, so that a model of one data set can be tested on another."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from ferlightning.errors import printable

EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt")

ALIASES = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "scared": "fear",
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "neutrality": "neutral",
    "contemptuous": "contempt",
}
NUMBERINGS = {
    "FER2013": (0, ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral")),
    "RAF-DB": (1, ("surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral")),
    "AffectNet": (0, ("neutral", "happiness", "sadness", "surprise", "fear", "disgust", "anger", "contempt")),
}
"""What numbers mean in data sets: the first number, and the names from it on."""


def numbering(data_set: str) -> str:
    """The numbers of a data set, for a message."""
    first, names = NUMBERINGS[data_set]
    return f"{data_set}: {', '.join(f'{n} {name}' for n, name in enumerate(names, first))}"


def canonical(name: str) -> str:
    """The vocabulary's name for a data set's own class name; a name outside it is returned stripped, in lower case.

    A number before a name of the vocabulary is left out.

    >>> canonical("Happy"), canonical("surprise"), canonical("0_angry"), canonical("wink")
    ('happiness', 'surprise', 'anger', 'wink')
    """
    name = printable(unicodedata.normalize("NFC", name).strip().lower())  # a Mac writes accents as letters of their own
    plain = re.sub(r"^\d+[\W_]*", "", name)
    return ALIASES.get(plain, plain if plain in EMOTIONS else name)


def spelled(name: str) -> str:
    """A data set's own class name as a person reads it: without a number before a name of the vocabulary.

    >>> spelled("0_Angry"), spelled(" Wink ")
    ('Angry', 'Wink')
    """
    name = printable(unicodedata.normalize("NFC", name).strip())
    plain = re.sub(r"^\d+[\W_]*", "", name)
    return plain if canonical(plain) in EMOTIONS else name


def as_written(class_names: Sequence[str], spelling: Mapping[str, str]) -> list[str]:
    """Class names as the data write them, by what differs from the vocabulary.

    >>> as_written(["happiness", "wink"], {"happiness": "Happy"})
    ['Happy', 'wink']
    """
    return [spelling.get(name, name) for name in class_names]


def probably_meant(name: str) -> str | None:
    """The emotion that a class name outside the vocabulary is probably a misspelling of; None if none is close.

    >>> probably_meant("suprise"), probably_meant("wink")
    ('surprise', None)
    """
    name = canonical(name)
    if name in EMOTIONS or len(name) < 3:
        return None
    close = get_close_matches(name, [*EMOTIONS, *ALIASES], n=1, cutoff=0.75)
    return canonical(close[0]) if close else None


def did_you_mean(name: str, class_names: Sequence[str]) -> str:
    """The end of a message about a name that is no class: the class that is close to it, if there is one.

    >>> did_you_mean("suprise", ["anger", "surprise"]), did_you_mean("wink", ["anger", "surprise"])
    ('. Did you mean surprise?', '')
    """
    close = [*get_close_matches(name, class_names), probably_meant(name) or ""]
    return next((f". Did you mean {meant}?" for meant in close[:1] if meant in class_names), "")
