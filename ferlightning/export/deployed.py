"""A network as it is deployed: bytes of images go in, probabilities come out."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ferlightning import __version__
from ferlightning.checkpoint import checkpoint_of, digest, load, network_state, read_checkpoint, read_header
from ferlightning.errors import FerlError
from ferlightning.models.network import Network


class Deployed(nn.Module):
    """A trained network between bytes and probabilities, with all that is tensor arithmetic inside.

    Args:
        network: in eval mode.
        views: the linear layers of auxiliary heads, by name.
        clips: read clips instead of stills.
    """

    def __init__(self, network: Network, views: dict[str, nn.Linear], clips: bool = False) -> None:
        super().__init__()
        self.network = network
        self.views = nn.ModuleDict(views)
        self.clips = clips

    def forward(self, image: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Classify images.

        Args:
            image: uint8, (B, C, H, W), or of clips (B, T, C, H, W).
            mask: of clips, (B, T) bool, True = real frame.

        Returns:
            Probabilities (B, K), then those of each view.
        """
        x = image.float() / 255
        output = self.network(x if self.clips else x.unsqueeze(1), mask)
        logits = [output.logits, *(head(output.embedding) for head in self.views.values())]
        return tuple(x.softmax(1) for x in logits)


def deployed(source: str | Path, clips: bool | None = None, trust: bool = False) -> tuple[Deployed, dict[str, Any]]:
    """What is deployed of a trained model, and what must be known to use it, as plain values.

    Args:
        source: what ``ferlightning.load`` takes.
        clips: read clips instead of stills; None: whichever it was trained on.
        trust: build parts of any package.

    Raises:
        FerlError: the model cannot be rebuilt, or does not tell the size of its images.
    """
    path = checkpoint_of(source)
    stored = read_checkpoint(path)
    header, state = read_header(stored, path), stored["state_dict"]
    network = load(path, trust=trust)
    if "size" not in network.input:
        raise FerlError(
            f"{path} does not tell the size of its images: it was trained on other data than ferlightning's"
        )
    clips = network.input.get("clips", network.frame_tokens) if clips is None else clips
    views = {}
    for name, view in header.get("views", {}).items():
        weight, bias = (state[f"{view['head']}.{end}"].float() for end in ("weight", "bias"))
        with torch.no_grad():
            views[name] = nn.Linear(weight.shape[1], weight.shape[0])
            views[name].weight.copy_(weight)
            views[name].bias.copy_(bias)
    known = {
        "version": __version__,
        "class_names": network.class_names,
        "views": {name: view["class_names"] for name, view in header.get("views", {}).items()},
        "input": {"margin": 0.0, **network.input, "clips": clips},
        "weights": header.get("sha256") or digest(network_state(state)),
    }
    return Deployed(network, views, clips).eval(), known
