"""Draw where a network looks in a face: ``python explain.py FACE [MODEL] [OUT]``; by default ferl-small, explained.png.

MODEL is a run folder, a checkpoint or a name of shipped weights; FACE is cut out already (``ferl data align`` does it).
"""

import sys

import matplotlib

matplotlib.use("Agg")  # no window
from matplotlib import pyplot as plt

import ferlightning as ferl


def main(face: str, model: str = "ferl-small", out: str = "explained.png") -> None:
    found = ferl.explain(ferl.load(model), face)
    figure, (left, right) = plt.subplots(1, 2, figsize=(5, 2.8))
    for axes in (left, right):
        axes.imshow(found.image[0], cmap="gray", vmin=0, vmax=1)
        axes.axis("off")
    if found.heat is not None:
        right.imshow(found.heat[0], cmap="inferno", alpha=0.5, vmin=0, vmax=1)
    figure.suptitle(f"{found.predicted}, {found.confidence:.0%}")
    figure.savefig(out)
    print(f"{found.predicted}, {found.confidence:.0%}: {out}")


if __name__ == "__main__":
    main(*sys.argv[1:])
