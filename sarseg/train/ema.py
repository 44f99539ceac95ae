"""A running mean of the weights, which is often better than the weights themselves (Polyak and Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class RunningMean:
    """Exponential mean of a network's parameters; in the first steps a shorter one: decay min(decay, (1 + t) / (10 + t)).

    Batch norm's statistics are no part of it: they are taken anew before a network is judged.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network, self.decay = network, decay
        self.mean = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}

    def update(self, step: int) -> None:
        """Take in the weights after `step` steps (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.mean.values()), [tensor.detach() for tensor in self.network.parameters()], 1.0 - decay)

    def load(self, mean: Mapping[str, Tensor]) -> None:
        """Go on from the mean of a checkpoint."""
        for name, tensor in self.mean.items():
            tensor.copy_(mean[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network with the mean for weights; its own weights and buffers come back."""
        own = {name: tensor.detach().clone() for name, tensor in self.network.state_dict().items()}
        self.network.load_state_dict(self.mean, strict=False)
        try:
            yield
        finally:
            self.network.load_state_dict(own)
