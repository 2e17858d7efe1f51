"""The class vocabulary: one name for each emotion, so that a model of one data set can be tested on another."""

EMOTIONS = ("anger", "disgust", "fear", "happiness", "sadness", "surprise", "neutral", "contempt")

ALIASES = {
    "angry": "anger",
    "disgusted": "disgust",
    "fearful": "fear",
    "afraid": "fear",
    "happy": "happiness",
    "joy": "happiness",
    "sad": "sadness",
    "surprised": "surprise",
    "neutrality": "neutral",
}


def canonical(name: str) -> str:
    """The vocabulary's name for a data set's own class name; a name outside it is returned stripped, in lower case.

    >>> canonical("Happy"), canonical("surprise"), canonical("wink")
    ('happiness', 'surprise', 'wink')
    """
    name = name.strip().lower()
    return ALIASES.get(name, name)
