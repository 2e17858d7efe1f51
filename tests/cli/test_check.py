"""What is refused before torch is imported, and that nothing is refused which the parser would take."""

import re
import shlex
import subprocess
import sys
from inspect import signature
from itertools import takewhile
from pathlib import Path

import pytest
import yaml

from ferlightning import plugins
from ferlightning.bench.suite import read_suite
from ferlightning.cli import configs, index
from ferlightning.cli.check import check
from ferlightning.cli.configs import expand
from ferlightning.errors import FerlError

CONFIGS = {name: path for name, path in configs.shipped(configs.CONFIGS).items() if not name.startswith("sweeps/")}


def test_the_index_knows_the_parts_and_options_that_importing_them_finds() -> None:
    plugins.load_plugins()
    for slot in plugins.SLOTS:
        imported = {part.__name__: part for part in plugins.parts(slot) if part.__module__.startswith("ferlightning.")}
        read = index.parts(slot)
        assert set(read) == set(imported)
        for name, part in imported.items():
            assert read[name].module == part.__module__
            options = index.options(read[name])
            assert options is not None, f"{name} hides some of its options"
            named = [p for p in signature(part).parameters.values() if p.kind != p.VAR_KEYWORD]
            assert {p.name for p in named} <= set(options)
            assert {p.name for p in named if p.default is not p.empty} <= {
                name for name, option in options.items() if option.default is not None
            }


def test_the_index_knows_the_trainers_options() -> None:
    from lightning.pytorch import Trainer

    assert list(index.trainer_options()) == list(signature(Trainer).parameters)
    assert {"ckpt_path", "test_after_fit"} <= set(index.command_options("fit"))


@pytest.mark.parametrize("name", CONFIGS)
def test_every_shipped_configuration_and_variant_passes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("faces").mkdir()  # configs/data/folder.yaml
    check(expand(["fit", "--config", name]))
    lines = takewhile(lambda line: line.startswith("#"), CONFIGS[name].read_text().splitlines())
    option = r"--[\w.]+\+?=(?:'[^']*'|\S*[^\s,;.])"
    for variant in re.findall(f"{option}(?: {option})*", " ".join(line.lstrip("# ") for line in lines)):
        words = [word for word in shlex.split(variant) if not re.search("RUN|FOLDER", word)]
        check(expand(["fit", f"--config={name}", *words]))


def test_every_shipped_suite_and_sweep_passes() -> None:
    for path in configs.shipped(configs.SUITES).values():
        suite = read_suite(path)
        for row in suite.rows:
            for column in suite.columns:
                for budget in suite.budgets.values():
                    for args in filter(None, (row.args, row.pretrain)):
                        words = [*args, *column.args, *row.also.get(column.name, []), *budget.args]
                        # Without what another training must leave first.
                        words = [word for word in words if not re.search(r"{pretrained}|init_from=runs/", word)]
                        check(expand(["fit", *words]))
        for name in suite.corruptions:
            check(["test", f"--data.corrupt={name}", "--data.corrupt.severity=1"])
    for path in configs.shipped(configs.SWEEPS).values():
        sweep = yaml.safe_load(path.read_text())
        words = [word for word in sweep["command"] if word.startswith("--")]
        values = {
            key: given.get("value", given.get("min", given.get("values", [0])[0]))
            for key, given in sweep["parameters"].items()
        }
        check(
            expand(
                [
                    "fit",
                    *words,
                    *(
                        f"--{key}={yaml.safe_dump(value, default_flow_style=True).splitlines()[0]}"
                        for key, value in values.items()
                    ),
                ]
            )
        )


@pytest.mark.parametrize(
    "words",
    [
        ["--model.losses+=FocalLoss", "--model.losses.weight=.5"],
        ["--model.backbone.channels+=8"],
        ["--model.sequence", "LSTM", "--model.sequence.hidden", "8", "--model.attention=null"],
        ["--model.init_args.backbone.init_args.channels=[8,8]", "--model.backbone.recalibration=CBAM"],
        [
            "--model.backbone=ResNet",
            "--model.backbone.recalibration.reduction=4",
            "--model.backbone.recalibration=CBAM",
        ],
        ["--model.backbone={class_path: ferlightning.parts.ResNet, init_args: {channels: [8]}}"],
        ["--model=some.module.Model", "--model.what=3", "--data=other.Faces", "--data.root=nowhere"],
        [
            "--trainer.limit_train_batches=0.5",
            "--trainer.fast_dev_run=true",
            "--trainer.logger=false",
        ],
        [
            "--trainer.devices=auto",
            "--trainer.strategy=auto",
            "--trainer.precision=16-mixed",
            "--trainer.val_check_interval=0.5",
            "--trainer.overfit_batches=0.1",
            "--trainer.max_time=00:01:00:00",
        ],
        ["--trainer.devices=[0]", "--trainer.devices=2", "--trainer.deterministic=warn", "--trainer.profiler=simple"],
        [
            "--trainer.max_epochs=null",
            "--model.lr_scale.backbone=0",
            "--model.lr_scale={head: 0}",
            "--seed_everything=true",
        ],
        [
            "--data.classes=[happy,sad]",
            "--data.classes=null",
            "--data.augment=[{class_path: Warp, init_args: {flip: 0.5}}]",
        ],
        ["--data.augment=[Warp, {class_path: ColorJitter, init_args: {contrast: 0.2}}]", "--data.augment+=CutMix"],
        ["--data.worker_augment=[HorizontalFlip]", "--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=1e-3"],
        ["--model.head=ProjectionHead", "--model.head.projection=LDA", "--model.head.projection.shrinkage=1"],
    ],
    ids=" ".join,
)
def test_what_the_parser_takes_passes(words: list[str]) -> None:
    check(["fit", *words])


MISTAKES = {
    "--config=nowhere": ["nowhere"],
    "--config=quickstar": ["quickstart"],
    "--config=bad.yaml": ["bad.yaml, line 3"],
    "--config=empty.yaml": ["empty.yaml is empty"],
    "--config=list.yaml": ["list.yaml", "key: value"],
    "--config=latin1.yaml": ["latin1.yaml", "UTF-8"],
    "--config=many.yaml": ["many.yaml", "aliases"],
    "--config=merged.yaml": ["merged.yaml", "aliases"],
    "--config=itself.yaml": ["itself.yaml", "aliases"],
    "--config=typo.yaml": ["model.head", "'dropuot'", "dropout"],
    "--trainr.max_epochs=3": ["trainr", "trainer"],
    "--batch_size=3": ["data.batch_size"],
    "--seed=3": ["'seed'", "seed_everything"],
    "--trainer.max_epoch=3": ["'max_epoch'", "max_epochs"],
    "--trainer.max_epochs=abc": ["trainer.max_epochs", "'abc'", "int"],
    "--trainer.ckpt_path=best.ckpt": ["give --ckpt_path"],
    "--model.backbone=ResNte": ["'ResNte'", "ResNet"],
    "--model.backbone=LSTM": ["'LSTM'", "sequence, attention"],
    "--model.losses=CrossEntropy": ["[CrossEntropy]", "+=CrossEntropy"],
    "--model.losses=[{class_path: CrossEntropi}]": ["CrossEntropy"],
    "--model.sequence.hidden=16": ["model.sequence is null", "--model.sequence=NAME", "LSTM"],
    "--model.backbone.chanels=[8]": ["model.backbone", "'chanels'", "channels"],
    "--model.backbone.channels=8,8": ["model.backbone.channels", "[8, 8]"],
    "--model.backbone={class_path: ResNet, init_args: {blocs: [1]}}": ["'blocs'", "blocks"],
    "--model.optimizer={class_path: SGD, lr: 0.1}": ["model.optimizer: 'lr' is beside class_path", "below init_args"],
    "--trainer.callbacks=[{class_path: EarlyStopping, monitor: val/loss}]": ["'monitor' is beside class_path"],
    "--config=null.yaml": ["null.yaml: trainer is None, expected its options"],
    "--model.init_from=no.ckpt": ["model.init_from", "no.ckpt"],
    "--data=FER2014": ["'FER2014'", "FER2013"],
    "--data.batch_siz=8": ["did you mean batch_size?"],
    "--data.classes=happy,sad": ["[happy, sad]"],
    "--model.compile": ["--model.compile=true if it is a switch"],
    "--model.class_names=[happy,sad]": ["model.class_names comes from the data"],
    "--data.root=nowhere": ["data has no option 'root'"],  # drawn faces have none
    "--data.predict_folder=nowhere": ["--data.predict_folder", "nowhere"],
    "--ckpt_path=no.ckpt": ["--ckpt_path", "no.ckpt"],
    "--ckpt_path=ferl-smal": ["did you mean ferl-small"],
    "--ckpt_path=": ["--ckpt_path is empty"],
    "--config": ["--config is empty"],
    "--config=": ["--config is empty"],
    "photos": ["'photos' is no option", "--config", "--data.predict_folder"],
    "--seed_everything=-5": ["seed_everything is -5", "4294967295"],
    "--config=deep.yaml": ["deep.yaml", "too deeply"],
    "--config=digits.yaml": ["digits.yaml", "digits"],
    f"--model.lr_scale={'[' * 5000}": ["--model.lr_scale", "too deeply"],
    "--model.sequence.help": ["give a class", "--model.sequence.help=NAME", "LSTM"],
}


def write_configurations() -> None:
    deep = "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    merged = "".join(f"a{i}: &a{i}\n  k{i}: 1\n  <<: [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9))
    for name, text in {
        "bad": "model:\n  sequence: [\n",
        "empty": "# nothing\n",
        "list": "- trainer\n",
        "null": "trainer:\n  # max_epochs: 3\n",
        "many": f"a0: &a0 [x,x,x]\n{deep}",
        "merged": f"a0: &a0 {{x: 1}}\n{merged}",
        "itself": "a: &a [*a]\n",
        "deep": "a: " + "[" * 5000 + "]" * 5000,
        "digits": "a: " + "9" * 10000,
        "typo": "model: {init_args: {head: {class_path: LinearHead, init_args: {dropuot: 0.1}}}}\n",
    }.items():
        Path(f"{name}.yaml").write_text(text)
    Path("latin1.yaml").write_bytes("# é\n".encode("latin-1"))


@pytest.mark.parametrize("word", MISTAKES, ids=lambda word: word[:60])
def test_a_mistake_is_found_by_the_check(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_configurations()
    with pytest.raises(FerlError) as refused:
        check(expand(["fit", word]))
    for part in MISTAKES[word]:
        assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_help_on_a_slot_is_on_the_part_in_it() -> None:
    assert check(["fit", "--model.help"]) == ["fit", "--model.help=ferlightning.models.classifier.Classifier"]
    words = ["fit", "--model.backbone=ResNet", "--model.backbone.help"]
    assert check(words)[-1] == "--model.backbone.help=ferlightning.parts.backbones.resnet.ResNet"


def test_a_run_folder_says_which_parts_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    checkpoint = Path("r/checkpoints/best.ckpt")
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    words = ["test", f"--ckpt_path={checkpoint}", "--model.sequence.hidden=9"]
    check(words)  # without a configuration, the checkpoint may hold any model
    model = {"class_path": "ferlightning.models.classifier.Classifier", "init_args": {"sequence": None}}
    Path("r/config.yaml").write_text(yaml.safe_dump({"model": model, "trainer": {"of another version": 1}}))
    with pytest.raises(FerlError, match=r"model\.sequence is null"):
        check(words)
    check([*words[:2], "--model.sequence=GRU", *words[2:]])


def test_a_module_beside_the_user_can_be_imported_if_the_user_names_it(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "mine_beside.py").touch()
    saved = yaml.safe_dump({"model": {"class_path": "mine_beside.Model"}})
    Path(tmp_path, "r", "checkpoints").mkdir(parents=True)
    Path(tmp_path, "r", "checkpoints", "best.ckpt").touch()
    Path(tmp_path, "r", "config.yaml").write_text(saved)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    before = list(sys.path)
    check(["test", "--ckpt_path=r/checkpoints/best.ckpt"])  # a run folder names it: not the user
    assert sys.path == before
    check(["fit", "--model.backbone=mine_beside.Net"])
    assert sys.path == [*before, str(tmp_path)]


def test_mistakes_are_found_without_torch(tmp_path: Path) -> None:
    """All in one process, in which nothing heavy may be imported: that is what makes the answers quick."""
    program = f"""
import sys
from ferlightning.cli.main import main
for words in {[["fit", word] for word in MISTAKES if not word.startswith("--config=")]!r} + [
    ["--help"], ["components"], ["data", "audit", "nowhere"], ["bench", "run", "smok"],
    ["bench", "run", "smoke", "--budgt=x"], ["sweep", "p4"], ["fit", "--config=nowhere"], ["data", "inspct"]]:
    try:
        main(words)
    except SystemExit as end:
        assert end.code == 2, words
    heavy = {{"torch", "lightning", "pandas", "matplotlib", "scipy", "cv2", "albumentations"}} & set(sys.modules)
    assert not heavy, (words, heavy)
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True)


def test_data_of_one_size_say_how_another_is_had() -> None:
    with pytest.raises(FerlError, match=r"'size'; these images have one of their own: give --data.preprocess\+=Resize"):
        check(["fit", "--data=FER2013", "--data.size=64"])
