"""The class vocabulary: one name for each emotion, so that a model of one data set can be tested on another."""

import re
import unicodedata
from difflib import get_close_matches

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
NUMBERINGS = (
    "FER2013: 0 anger, 1 disgust, 2 fear, 3 happiness, 4 sadness, 5 surprise, 6 neutral",
    "RAF-DB: 1 surprise, 2 fear, 3 disgust, 4 happiness, 5 sadness, 6 anger, 7 neutral",
    "AffectNet: 0 neutral, 1 happiness, 2 sadness, 3 surprise, 4 fear, 5 disgust, 6 anger, 7 contempt",
)
"""What numbers mean in data sets, for messages: a number alone does not say whose it is."""


def canonical(name: str) -> str:
    """The vocabulary's name for a data set's own class name; a name outside it is returned stripped, in lower case.

    A number before a name of the vocabulary is left out.

    >>> canonical("Happy"), canonical("surprise"), canonical("0_angry"), canonical("wink")
    ('happiness', 'surprise', 'anger', 'wink')
    """
    name = unicodedata.normalize("NFC", name).strip().lower()  # a Mac writes accents as letters of their own
    plain = re.sub(r"^\d+[\W_]*", "", name)
    return ALIASES.get(plain, plain if plain in EMOTIONS else name)


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
