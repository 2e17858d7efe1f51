"""Recurrent stages as ONNX has them: torch's exporter fixes their length."""

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from ferlightning.contracts.modules import Tokens
from ferlightning.parts.sequences import GRU, LSTM

M = TypeVar("M", bound=nn.Module)
GATES = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2)}
"""Places in torch's weights of the gates in the order of ONNX: input, output, forget, cell; update, reset, hidden."""


def with_onnx_stages(model: M) -> M:
    """A copy of a model whose recurrent stages are operators of ONNX. It can be exported, not run."""
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        if isinstance(module, LSTM | GRU):
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, OnnxRecurrent(module))
    return model


class OnnxRecurrent(nn.Module):
    """The ONNX operators LSTM or GRU, one a layer, https://onnx.ai/onnx/operators/onnx__LSTM.html: (B, L, D) to same L.

    Args:
        stage: has the weights.
    """

    def __init__(self, stage: LSTM | GRU) -> None:
        super().__init__()
        self.attention: Tensor | None = None  # as every stage has, but it is no part that could be chosen
        rnn = stage.rnn
        self.kind = rnn.mode
        self.out_features = stage.out_features
        self.hidden = rnn.hidden_size
        self.directions = ["", "_reverse"] if rnn.bidirectional else [""]
        self.weights, self.recurrences, self.biases = nn.ParameterList(), nn.ParameterList(), nn.ParameterList()
        for i in range(rnn.num_layers):
            ends = [f"l{i}{direction}" for direction in self.directions]
            self.weights.append(torch.stack([self._ordered(rnn, f"weight_ih_{end}") for end in ends]))
            self.recurrences.append(torch.stack([self._ordered(rnn, f"weight_hh_{end}") for end in ends]))
            both = [[self._ordered(rnn, f"bias_{name}_{end}") for name in ("ih", "hh")] for end in ends]
            self.biases.append(torch.stack([torch.cat(biases) for biases in both]))

    def _ordered(self, rnn: nn.Module, name: str) -> Tensor:
        rows, h = rnn.get_parameter(name).detach(), self.hidden
        return torch.cat([rows[h * gate : h * (gate + 1)] for gate in GATES[self.kind]])

    def forward(self, tokens: Tokens) -> Tokens:
        b, length, _ = tokens.x.shape
        lengths = None if tokens.mask is None else tokens.mask.sum(1).int()
        options: dict[str, Any] = {"hidden_size": self.hidden}
        options["direction"] = "bidirectional" if len(self.directions) == 2 else "forward"
        if self.kind == "GRU":
            options["linear_before_reset"] = 1  # as torch and cuDNN have it
        x = tokens.x.transpose(0, 1)  # (L, B, D)
        for weight, recurrence, bias in zip(self.weights, self.recurrences, self.biases, strict=True):
            inputs = (x, weight, recurrence, bias, lengths)
            shape = (length, len(self.directions), b, self.hidden)
            y = torch.onnx.ops.symbolic(self.kind, inputs, options, dtype=x.dtype, shape=shape, version=20)
            x = y.transpose(1, 2).flatten(2)  # (L, B, out_features)
        return tokens._replace(x=x.transpose(0, 1))
