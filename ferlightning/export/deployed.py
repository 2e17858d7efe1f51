"""A network as it is deployed: bytes of images go in, probabilities come out."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ferlightning import __version__
from ferlightning.checkpoint import (
    HEADER,
    build_network,
    checkpoint_of,
    head_of,
    members_of,
    read_checkpoint,
    read_header,
)
from ferlightning.emotions import as_written
from ferlightning.errors import FerlError
from ferlightning.models.network import Network


class Member(nn.Module):
    """A network with its auxiliary heads.

    Args:
        network: of the classes of its own.
        views: the linear layers of auxiliary heads, by name.
    """

    def __init__(self, network: Network, views: Mapping[str, nn.Linear]) -> None:
        super().__init__()
        self.network = network
        self.views = nn.ModuleDict(views)

    def forward(self, image: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        output = self.network(image, mask)
        logits = [output.logits, *(head(output.embedding) for head in self.views.values())]
        return [x.softmax(1) for x in logits]


class Deployed(nn.Module):
    """Networks between bytes and probabilities, with all that is tensor arithmetic inside.

    Args:
        members: in eval mode; of several, the mean of the probabilities counts.
        clips: read clips instead of stills.
        mirror: take the mean over mirror images, too.
    """

    def __init__(self, members: Sequence[Member], clips: bool = False, mirror: bool = False) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.outputs = ["probabilities", *members[0].views]
        self.clips = clips
        self.mirror = mirror

    def forward(self, image: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """Classify images.

        Args:
            image: uint8, (B, C, H, W), or of clips (B, T, C, H, W).
            mask: of clips, (B, T) bool, True = real frame.

        Returns:
            Probabilities (B, K), then those of each view.
        """
        x = image.float() / 255
        x = x if self.clips else x.unsqueeze(1)
        found = [member(y, mask) for y in ((x, x.flip(-1)) if self.mirror else (x,)) for member in self.members]
        return tuple(sum(same) / len(found) if len(found) > 1 else same[0] for same in zip(*found, strict=True))


def read_members(sources: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What is stored of trained models, or of each member of one that is an ensemble, by what to call it.

    Raises:
        FerlError: there is no such file, it is damaged, or it does not say how its network was built.
    """
    members = {}
    for source in sources:
        path = checkpoint_of(source)
        stored = read_checkpoint(path)
        read_header(stored, path)
        for i, member in enumerate(members_of(stored)):
            members[f"member {i} of {source}" if "members" in stored[HEADER] else source] = member
    return members


def deployed(
    stored: Mapping[str, dict[str, Any]],
    header: Mapping[str, Any],
    clips: bool | None = None,
    mirror: bool = False,
    trust: bool = False,
) -> tuple[Deployed, dict[str, Any]]:
    """What is deployed of trained models, and what must be known to use it, as plain values.

    Args:
        stored: what ``read_members`` has read; of several, the mean of the probabilities counts.
        header: of all of them together.
        clips: read clips instead of stills; None: whichever they were trained on.
        mirror: take the mean over mirror images, too.
        trust: build parts of any package.

    Raises:
        FerlError: a network cannot be rebuilt, or does not tell the size of its images.
    """
    members = [member_of(member, path, trust) for path, member in stored.items()]
    shape = header.get("input", {})
    if "size" not in shape:
        path = next(iter(stored))
        raise FerlError(
            f"{path} does not tell the size of its images: it was trained on other data than ferlightning's"
        )
    clips = shape.get("clips", members[0].network.frame_tokens) if clips is None else clips
    known = {
        "version": __version__,
        "class_names": as_written(header["network"]["class_names"], shape.get("spelling", {})),
        "views": {name: view["class_names"] for name, view in header["views"].items()},
        "input": {"margin": 0.0, **shape, "clips": clips},
        "mirror": mirror,
    }
    return Deployed(members, clips, mirror).eval(), known


def member_of(stored: dict[str, Any], path: str, trust: bool = False) -> Member:
    """Rebuild one network, with its auxiliary heads, of what ``read_members`` has read."""
    heads = {name: _linear(*head_of(stored, view)) for name, view in stored[HEADER].get("views", {}).items()}
    return Member(build_network(stored, path, trust=trust), heads).eval()


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer
