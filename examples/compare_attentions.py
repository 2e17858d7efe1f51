"""Compare three attentions, all else equal: ``python compare_attentions.py [FACES] [EPOCHS]``; drawn faces by default.

One training each says nothing of other seeds: for a table to publish, write a suite for ``ferl bench run``.
"""

import sys

import ferlightning as ferl

BACKBONE = {"class_path": "ConvStack", "init_args": {"channels": [16, 32, 64, 96], "depth": 1}}


def main(faces: str = "SyntheticFaces", epochs: str = "15") -> None:
    runs = {}
    for attention in (None, "AdditiveAttention", "DotProductAttention"):
        model = {"backbone": BACKBONE, "sequence": "LSTM", "attention": attention}
        name = attention or "no_attention"
        runs[name] = ferl.fit(model, faces, name=name, max_epochs=int(epochs))
        ferl.test(runs[name])
    found = ferl.compare(runs)
    print(found)
    found.to_csv("differences.csv")


if __name__ == "__main__":
    main(*sys.argv[1:])
