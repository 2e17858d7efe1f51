"""``ferl fit --help`` and its like: the lines that most people need."""

from collections.abc import Sequence

from ferlightning.cli.components import components, describe
from ferlightning.errors import FerlError

SHORT = {
    "fit": """usage: ferl fit [DATA] [options]

Train a model, and report on validation with the best checkpoint.

  ferl fit FACES                     a folder for each class; or a copy of FER2013, FER+, CK+, RAF-DB or AffectNet
  ferl fit --config quickstart       a configuration, ours or a file; the later of two wins, and options win over both
  --from=ferl-small                  start from trained weights, with their network; or from a run, or a checkpoint
  --model.backbone=ResNet            choose a part, and null leaves one out; --model.backbone.channels=[32,64] sets it
  --data.size=96 --data.color=true   how images are read; --data.augment=[Warp] changes them while training
  --trainer.max_epochs=20 --model.optimizer.lr=0.001
  --test_after_fit=true              measure the best checkpoint on the test split, too
  --name=TRY                         the run folder is runs/TRY/TIME, and runs/TRY/latest
  --ckpt_path=RUN                    go on with a run that was stopped; --ckpt_path=last finds the last one
  --open, --quiet, --trust, --print_config
""",
    "validate": """usage: ferl validate RUN [options]

Evaluate a checkpoint on the validation split: a run folder, a checkpoint, or a name such as ferl-small.

  --data=FER2013 --data.root=DATA    other data; classes are matched by name
  --trainer.default_root_dir=DIR     where the report goes, in place of the run folder
  --open                             show the report in a browser
""",
    "test": """usage: ferl test RUN [options]

Evaluate a checkpoint on the test split: a run folder, a checkpoint, or a name such as ferl-small.

  --data=FER2013 --data.root=DATA    other data, with a report of its own; classes are matched by name
  --data.corrupt=JPEG --data.corrupt.severity=3
  --model.mirror=true                the mean over each image and its mirror image
  --trainer.default_root_dir=DIR     where the report goes, in place of the run folder
  --open                             show the report in a browser
""",
    "predict": """usage: ferl predict MODEL FACES... [options]

Write predictions.csv: what a model says of faces that were cut out. ferl recognize finds them in pictures.

  MODEL                              a run folder, a checkpoint, a file of ferl export, or a name such as ferl-small
  FACES                              pictures and folders; without any, those of the test split
  --trainer.default_root_dir=DIR     where predictions.csv goes, in place of the run folder
""",
}


def show(command: str, words: Sequence[str]) -> bool:
    """Print the help that a command asks for, unless it is the whole one, which is the parser's.

    Args:
        command: ``fit``, ``validate``, ``test`` or ``predict``.
        words: after ``--help``.

    Raises:
        FerlError: there is no part of the name that is asked for.
    """
    asked = next((word for word in words if not word.startswith("-")), None)
    if asked == "all":
        return False
    if asked is not None:
        try:
            print("\n\n".join(map(describe, components(asked))))
        except FerlError as error:
            raise FerlError(f"ferl {command} --help: {error}") from None
        return True
    print(SHORT[command])
    print(f"ferl {command} --help all shows every option, ferl {command} --help ResNet those of a part.")
    return True
