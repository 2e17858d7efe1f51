"""What a restorer makes of faces: a few of them clean, corrupted and restored.

Shapes: B batch, T frames, C channels, H W image, M faces shown.
"""

import torch
from torch import Tensor, nn

from ferlightning.contracts.modules import Restorer
from ferlightning.evaluation.explain import as_pixels, part
from ferlightning.evaluation.statistics import Array
from ferlightning.parts.restorers import EVAL_SEED, DenoisingAutoencoder

FACES = 8


def restored_faces(model: nn.Module, image: Tensor) -> dict[str, Array] | None:
    """Restore the first faces of a batch. An autoencoder gets them corrupted, as in its training.

    Args:
        model: in eval mode.
        image: (B, T, C, H, W) in [0, 1]; only the first frame of a clip is shown.

    Returns:
        The faces of each stage by its name, the clean ones first: (M, H, W) grey or (M, H, W, 3) RGB, in [0, 1]. None
        for a model without a restorer.
    """
    restorer = part(model, "restorer")
    if not isinstance(restorer, Restorer):
        return None
    clean = image[:FACES, 0].to(next(restorer.parameters(), image).dtype)  # bf16-true changes the restorer alone
    with torch.inference_mode():
        stages = {"clean": clean}
        if isinstance(restorer, DenoisingAutoencoder):
            generator = torch.Generator(clean.device).manual_seed(EVAL_SEED)
            stages["corrupted"] = restorer.corruption(clean, generator)
            stages["restored"] = restorer.restore(stages["corrupted"])
        else:
            stages["restored"] = restorer(clean)
    return {name: as_pixels(faces.float().cpu()) for name, faces in stages.items()}
