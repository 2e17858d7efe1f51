"""What loggers other than ours need: W&B out of reach, so that a training goes on offline; TensorBoard's graph."""

import logging
import os
import warnings
from contextlib import redirect_stdout
from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

from ferlightning.weights import connect

WAIT = 5
"""Seconds in which the server must answer; wandb itself would wait for a minute and a half."""
log = logging.getLogger(__name__)


def go_offline_if_unreachable() -> None:
    """Set W&B's mode to offline, with a warning, if its server does not take a connection."""
    if os.environ.get("WANDB_MODE", "online") != "online":
        return
    address = os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")
    try:
        connect(address, WAIT)
    except OSError as error:
        os.environ["WANDB_MODE"] = "offline"
        log.warning("W&B is out of reach (%s: %s): this run is kept offline; upload it by wandb sync", address, error)


class _Logits(nn.Module):
    """A network with an output that the tracer knows."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image).logits
        return logits


def draw_graph(loggers: list[Any], network: nn.Module, image: Tensor) -> None:
    """Give TensorBoard the graph of a network, if there is such a logger and the network can be traced."""
    boards = [logger for logger in loggers if isinstance(logger, TensorBoardLogger)]
    for logger in boards:
        with warnings.catch_warnings(), redirect_stdout(None), torch.no_grad():
            warnings.simplefilter("ignore")  # the tracer is told to be on its way out of torch
            try:
                # A copy: frozen parts of the network itself are in eval mode, and must stay so while others train.
                logger.experiment.add_graph(_Logits(deepcopy(network).eval()), image)
            except (RuntimeError, TypeError, ValueError, LookupError) as error:
                log.warning("TensorBoard gets no graph of the network: %s", str(error).splitlines()[0])
