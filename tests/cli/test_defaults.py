"""What a part has that is chosen by name: its own defaults, and what the user typed; nothing of the part before it."""

import inspect
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ferlightning.cli.main import main
from ferlightning.plugins import parts

OTHERS = {"backbone": "ConvStack", "sequence": "TCN", "attention": "AdditiveAttention", "head": "LinearHead"}


def resolved(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    """The model's options after these words."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["fit", *words, "--print_config"])
    assert not stop.value.code
    model: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    return model


def own_defaults(part: type) -> dict[str, Any]:
    """Plain defaults of a part's constructor."""
    found = {name: p.default for name, p in inspect.signature(part).parameters.items() if p.default is not p.empty}
    plain = {name: x for name, x in found.items() if isinstance(x, bool | int | float | str | tuple | None)}
    return {name: list(x) if isinstance(x, tuple) else x for name, x in plain.items()}


def has_own_defaults(option: dict[str, Any], part: type) -> None:
    assert option["class_path"].endswith(part.__name__)
    for name, value in own_defaults(part).items():
        assert option["init_args"][name] == value, f"{part.__name__}.{name}"


def test_every_part_chosen_by_name_has_its_own_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    backbones, heads, stages = (
        [part for part in parts(slot) if part.__module__.startswith("ferlightning.")]  # not those of other tests
        for slot in ("backbone", "head", "sequence, attention")
    )
    words = [f"--model.{slot}={name}" for slot, name in OTHERS.items()]
    for backbone, head, stage in zip_longest(backbones, heads, stages):
        chosen = {"backbone": backbone, "head": head, "sequence": stage, "attention": stage}
        model = resolved(capsys, *words, *(f"--model.{slot}={x.__name__}" for slot, x in chosen.items() if x))
        for slot, part in chosen.items():
            if part:
                has_own_defaults(model[slot], part)


def test_options_of_a_configuration_go_with_the_class_they_belong_to(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "mine.yaml"
    config.write_text(
        "model:\n  head: {class_path: LinearHead, init_args: {dropout: 0.2}}\n"
        "  optimizer: {class_path: torch.optim.AdamW, init_args: {lr: 0.5, weight_decay: 0.3}}\n"
    )
    model = resolved(capsys, f"--config={config}", "--model.head=MLPHead", "--model.optimizer=torch.optim.Adam")
    assert model["head"]["init_args"]["dropout"] == 0.5
    assert model["optimizer"]["init_args"] == own_defaults(torch.optim.Adam) | {"betas": [0.9, 0.999]}
    model = resolved(capsys, f"--config={config}", "--model.head.dropout=0.1", "--model.optimizer.lr=0.25")
    assert model["head"]["init_args"]["dropout"] == 0.1, "of the same class, the rest is kept"
    assert model["optimizer"]["init_args"]["weight_decay"] == 0.3


@pytest.mark.parametrize("reverse", [False, True], ids=["class first", "option first"])
def test_what_is_typed_counts_in_any_order(reverse: bool, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.25", "--model.optimizer.momentum=0.5"]
    options = resolved(capsys, *(reversed(words) if reverse else words))["optimizer"]["init_args"]
    assert (options["lr"], options["momentum"]) == (0.25, 0.5)


def test_the_rate_of_the_default_optimizer_is_one_flag_away(capsys: pytest.CaptureFixture[str]) -> None:
    optimizer = resolved(capsys, "--model.optimizer.lr=0.02")["optimizer"]
    assert optimizer["class_path"].endswith("AdamW") and optimizer["init_args"]["lr"] == 0.02
