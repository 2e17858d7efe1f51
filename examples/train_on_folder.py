"""Train on your own faces, a folder for each class: ``python train_on_folder.py FACES [EPOCHS]``."""

import sys

import ferlightning as ferl


def main(faces: str, epochs: str = "20") -> None:
    for source in ferl.inspect(faces):
        print(source["data"], source["classes"])
    run = ferl.fit(data=faces, start="ferl-small", name="my_faces", max_epochs=int(epochs))
    scores = ferl.test(run)
    print(f"accuracy {scores.metrics['accuracy']} of {scores.items} images; see {scores.report}")
    for name, found in scores.per_class.items():
        print(f"  {name}: recall {found['recall']:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
