"""Structured pruning: what goes has no effect, what stays is a network like any other."""

import json
from functools import partial
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from torch import nn

from ferlightning import Network, load
from ferlightning.checkpoint import HEADER, header_of, read_checkpoint
from ferlightning.cli.main import main
from ferlightning.contracts.modules import Backbone
from ferlightning.described import describe
from ferlightning.errors import FerlError
from ferlightning.evaluation.provenance import multiply_adds
from ferlightning.export.commands import export
from ferlightning.models.files import save_weights
from ferlightning.parts import CBAM, LSTM, ConvStack, DepthwiseStack, LinearHead, MLPHead, Pruned, ResNet, Timm
from tests.conftest import NO_REPORT, TINY

RUN = "--trainer.default_root_dir=run"
SHAPE = {"size": [24, 24], "channels": 1}
IMAGE = torch.rand(4, 1, 24, 24, generator=torch.Generator().manual_seed(0))


def save(path: Path, **parts: object) -> Network:
    """Random weights of a network of three classes, with an auxiliary head of two."""
    torch.manual_seed(0)
    made_of = {"class_names": ["a", "b", "c"], "head": LinearHead, **parts}
    network = Network(**made_of).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
    view = nn.Linear(network.head.embed_features, 2)
    tensors = network.state_dict() | {f"views.d.{name}": x for name, x in view.state_dict().items()}
    views = {"d": {"class_names": ["d", "e"], "head": "views.d"}}
    made = {name: describe(value) for name, value in made_of.items()}
    save_weights(path, tensors, header_of(network=made, input=SHAPE, views=views))
    return network


def test_channels_without_effect_go_first_and_nothing_changes(tmp_path: Path) -> None:
    """Half of the channels inside a residual block are zeros: without them it gives the same for half the work."""
    path, out = tmp_path / "whole.safetensors", tmp_path / "half.safetensors"
    network = save(path, backbone=partial(ResNet, channels=[16], blocks=[1]))
    first, norm, _, second, _ = network.backbone.layers[3].residual
    silent = torch.randperm(16)[:8]
    with torch.no_grad():
        for rows in (first.weight, norm.weight, norm.bias, second.weight.transpose(0, 1)):
            rows[silent] = 0
    header = read_checkpoint(path)[HEADER]
    views = {name: x for name, x in load_file(path).items() if name.startswith("views.")}
    save_weights(path, network.state_dict() | views, header)
    export(str(path), str(out), "safetensors", prune=0.4)
    for view in (None, "d"):
        whole, half = (load(file, view=view) for file in (path, out))
        torch.testing.assert_close(half(IMAGE).logits, whole(IMAGE).logits)
    assert half.backbone.backbone.layers[3].residual[0].weight.shape == (8, 16, 3, 3)
    assert multiply_adds(half, IMAGE) / multiply_adds(whole, IMAGE) == pytest.approx((1 + 16) / (1 + 32), abs=0.01)


def test_a_pruned_network_is_trained_again_by_the_configuration_beside_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    main(["fit", *TINY, "--model.backbone.channels=[16,32]", "--trainer.max_epochs=1", *NO_REPORT, RUN])
    main(["export", "run", "half.safetensors", "--format=safetensors", "--prune=0.5"])
    model = ["--model.backbone.channels=[16,32]", "--config=half.yaml"]
    main(["fit", *TINY, *model, "--trainer.max_epochs=1", *NO_REPORT, RUN.replace("run", "again")])
    main(["test", "again"])
    main(["export", "again", "again.safetensors", "--format=safetensors"])
    report, card = json.loads(Path("again/report/metrics.json").read_text()), ModelCard.load("again.safetensors.md")
    (found,) = [result.metric_value for result in card.data.eval_results if result.metric_type == "accuracy"]
    assert found == pytest.approx(report["metrics"]["accuracy"]["value"], abs=5e-5) and "## Use and limits" in card.text
    main(["export", "again", "less.safetensors", "--format=safetensors", "--prune=0.3"])
    assert not ModelCard.load("less.safetensors.md").data.eval_results  # those are of the network that was tested
    kinds = [load(file).backbone for file in ("half.safetensors", "again")]
    assert all(isinstance(kind, Pruned) for kind in kinds) and kinds[0].out_features == kinds[1].out_features < 32
    assert multiply_adds(load("again"), IMAGE) <= 0.5 * multiply_adds(load("run"), IMAGE)


def test_the_card_of_a_pruned_network_has_no_figure_of_the_whole_one(tmp_path: Path) -> None:
    cards = []
    for share in (0.0, 0.3):
        export("ferl-small", str(tmp_path / f"{share}.safetensors"), "safetensors", prune=share)
        cards.append((tmp_path / f"{share}.safetensors.md").read_text())
    assert "69.57" in cards[0] and "69.57" not in cards[1] and "was not trained again" in cards[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [
        {"backbone": partial(DepthwiseStack, channels=[16, 32])},
        {"backbone": partial(ConvStack, channels=[16, 32], recalibration=CBAM), "head": MLPHead},
        {"backbone": partial(Timm, name="resnet18"), "sequence": LSTM},
        {"backbone": partial(Timm, name="efficientnet_b0")},
    ],
    ids=str,
)
def test_backbones_of_many_kinds_lose_half(parts: dict, tmp_path: Path) -> None:
    save(tmp_path / "whole.safetensors", **parts)
    export(str(tmp_path / "whole.safetensors"), str(tmp_path / "half.safetensors"), "safetensors", prune=0.5)
    whole, half = (load(tmp_path / f"{name}.safetensors") for name in ("whole", "half"))
    assert 0.3 < multiply_adds(half, IMAGE) / multiply_adds(whole, IMAGE) <= 0.5
    export(str(tmp_path / "half.safetensors"), str(tmp_path / "half.onnx"))


class _Normed(Backbone):
    """Whose widths are not those of convolutions alone."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.out_features = 32
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, 32, 3, 2, 1), nn.GroupNorm(1, 32), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


def test_a_backbone_of_other_layers_is_refused_in_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    save(tmp_path / "whole.safetensors", backbone=_Normed)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FerlError, match="cannot be pruned: its backbone has more that depends on widths") as refused:
        export(
            str(tmp_path / "whole.safetensors"), str(tmp_path / "a.safetensors"), "safetensors", prune=0.3, trust=True
        )
    assert "\n" not in str(refused.value) and sorted(tmp_path.iterdir()) == before
    assert "".join(capfd.readouterr()) == ""


def test_a_network_without_numbers_is_not_pruned(tmp_path: Path) -> None:
    save(tmp_path / "whole.safetensors", backbone=partial(ConvStack, channels=[16, 32]), pixel_std=[0.0])
    with pytest.raises(FerlError, match=r"gives no numbers \(NaN\)"):
        export(str(tmp_path / "whole.safetensors"), str(tmp_path / "a.safetensors"), "safetensors", prune=0.3)


def test_what_cannot_be_cut_is_told(tmp_path: Path) -> None:
    with pytest.raises(FerlError, match=r"layers.0 cannot have \[9, 1\] channels; it has \[8, 1\]"):
        Pruned(1, partial(ConvStack, channels=[8]), {"layers.0": [9, 1]}, 9)
    for share in (1.0, -0.1):
        with pytest.raises(FerlError, match="expected the share"):
            export("ferl-small", str(tmp_path / "a.safetensors"), "safetensors", prune=share)
    assert not [*tmp_path.iterdir()]
