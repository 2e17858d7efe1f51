"""The losses on images: of a restorer, against a loop, and of a decoder, by hand and in a training."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ferlightning import Classifier, load
from ferlightning.contracts.modules import Output
from ferlightning.errors import FerlError
from ferlightning.parts import ConvStack, ImageDecoder, Reconstruction
from tests.conftest import NO_REPORT, SMALL, TINY

B, T, C, H, W = 3, 4, 2, 5, 6
IMAGE, RESTORED = torch.rand(2, B, T, C, H, W, generator=torch.Generator().manual_seed(0))


def value(restored: torch.Tensor, mask: torch.Tensor | None) -> float:
    output = Output(torch.zeros(B, 3), torch.zeros(B, 8), restored, None)
    batch = {"image": IMAGE} if mask is None else {"image": IMAGE, "mask": mask}
    with torch.no_grad():
        return Reconstruction(8, [1, 1, 1])(output, batch).item()


def test_it_is_the_mean_squared_error_of_real_frames() -> None:
    lengths = [4, 1, 2]
    errors = [
        np.mean((RESTORED[b, t].double() - IMAGE[b, t].double()).numpy() ** 2) for b in range(B) for t in range(T)
    ]
    assert value(RESTORED, None) == pytest.approx(np.mean(errors), rel=1e-5)
    real = [errors[b * T + t] for b in range(B) for t in range(lengths[b])]
    mask = torch.arange(T) < torch.tensor(lengths)[:, None]
    assert value(RESTORED, mask) == pytest.approx(np.mean(real), rel=1e-5)
    padding = ~mask[:, :, None, None, None]
    assert value(RESTORED.masked_fill(padding, 0), mask) == pytest.approx(np.mean(real), rel=1e-5)


def test_a_model_without_a_restorer_is_refused_in_training() -> None:
    output = Output(torch.zeros(B, 3, requires_grad=True), torch.zeros(B, 8), IMAGE, None)
    with pytest.raises(FerlError, match="set model.restorer"):
        Reconstruction(8, [1, 1, 1])(output, {"image": IMAGE})
    assert value(IMAGE, None) == 0


def decoder_of(grey: float, size: int = 16) -> ImageDecoder:
    """A decoder whose image is of one grey, whatever the embedding."""
    loss = ImageDecoder(8, [1, 1, 1], size=size)
    last = loss.decode[-2]
    torch.nn.init.zeros_(last.weight)
    torch.nn.init.constant_(last.bias, float(torch.tensor(grey).logit()))
    return loss


def test_a_decoded_image_is_compared_with_each_real_frame_in_grey() -> None:
    """Frames in one colour: a mean over channels of 0.2 and 0.5, and padding of 1, against a decoded 0.3."""
    image = torch.stack([torch.full((3, 24, 40), grey) for grey in (0.2, 0.5, 1.0)])[None]
    image[:, :, 0] += 0.06
    image[:, :, 1] -= 0.06
    output = Output(torch.zeros(1, 3), torch.randn(1, 8), image, None)
    batch = {"image": image, "mask": torch.tensor([[True, True, False]])}
    assert decoder_of(0.3)(output, batch).item() == pytest.approx((0.1**2 + 0.2**2) / 2, rel=1e-4)
    del batch["mask"]
    assert decoder_of(0.3)(output, batch).item() == pytest.approx((0.1**2 + 0.2**2 + 0.7**2) / 3, rel=1e-4)


@pytest.mark.parametrize("size", [0, 36])
def test_a_size_that_doubling_cannot_reach_is_refused(size: int) -> None:
    with pytest.raises(FerlError, match=f"ImageDecoder: size is {size}, it must be a multiple of 8"):
        ImageDecoder(8, [1], size=size)


def test_it_learns_to_draw_what_the_embedding_tells() -> None:
    """Four images, each told by its embedding: the error must fall far below that of their mean image."""
    torch.manual_seed(0)
    loss, image = (
        ImageDecoder(4, [1], size=16),
        torch.rand(4, 1, 1, 4, 4).repeat_interleave(4, 3).repeat_interleave(4, 4),
    )
    output, batch = Output(torch.zeros(4, 1), torch.eye(4), image, None), {"image": image}
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        error = loss(output, batch)
        error.backward()
        optimizer.step()
    assert error < 0.1 * (image - image.mean(0)).square().mean()


def test_its_gradient_reaches_decoder_and_backbone() -> None:
    model = Classifier(["a", "b"], backbone=partial(ConvStack, channels=(4,), depth=1), losses=[ImageDecoder])
    batch = {"image": torch.rand(2, 1, 1, 16, 16), "label": torch.tensor([0, 1])}
    model.training_step(batch, 0).backward()
    untouched = {name for name, x in model.named_parameters() if x.grad is None or not x.grad.any()}
    assert untouched == {"network.head.classify.weight", "network.head.classify.bias"}


def test_a_checkpoint_has_the_decoder_and_no_prediction_needs_it(ferl: Callable[..., Path]) -> None:
    losses = "--model.losses=[CrossEntropy,ImageDecoder]"
    path = ferl("fit", *TINY, *SMALL, *NO_REPORT, losses, "--trainer.max_epochs=1") / "checkpoints" / "last.ckpt"
    assert "losses.1.decode.0.weight" in torch.load(path, weights_only=True)["state_dict"]
    trained, network, image = Classifier.load_from_checkpoint(path).eval(), load(path), torch.rand(2, 1, 1, 48, 48)
    assert not [name for name in network.state_dict() if "decode" in name]
    with torch.no_grad():
        torch.testing.assert_close(network(image).logits, trained(image).logits)
