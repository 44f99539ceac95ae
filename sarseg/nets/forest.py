"""A random forest (Breiman 2001) on filtered bands, as plain arrays: scikit-learn fits it, a small kernel evaluates it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor, nn

from sarseg.nets.boxcar import FEATURES_A_BAND, BandScales, filtered_features

if TYPE_CHECKING:
    from sarseg.nets.modelfile import BandSpec

LEAST_PROBABILITY = 1e-12
"""Probabilities become logits: none is 0."""
MOST_NODES = 100_000_000

_LEAF = -1
_CHUNK = 1 << 16  # pixels a thread takes at a time
_BLOCK = 1 << 11  # pixels that go through one tree after another: the tree's nodes stay in the cache


@dataclass(frozen=True, slots=True)
class RandomForestConfig:
    """Number of trees and least training pixels a leaf; `nodes` of all trees together is what the fit gave, 0 before it."""

    bands: int
    classes: int
    trees: int = 100
    min_leaf: int = 5
    nodes: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.trees <= 10_000 or self.min_leaf < 1:
            raise ValueError(f"trees {self.trees} is not in 1..10000, or min_leaf {self.min_leaf} is below 1")
        # every node of a tree has two children or none
        if self.nodes and (not self.trees <= self.nodes <= MOST_NODES or (self.nodes - self.trees) % 2):
            raise ValueError(f"{self.trees} trees cannot have {self.nodes} nodes")


class RandomForest(nn.Module):
    """Normalised bands float (n, bands, h, w), NaN = no value -> log of the trees' mean probabilities (n, classes, h, w).

    Features as `filtered_features` makes them. Where a band is NaN all classes are equal. It computes on the CPU.

    Buffers: `root` int32 (trees,); `feature` int16 (nodes,), -1 = leaf; `threshold` float64 (nodes,): a feature up to it goes
    `left`, else `right`, int32 (nodes,); a leaf's `left` is its row in `distribution` float32 (leaves, classes); and the bands'
    `BandScales` under the names `band_...`.
    """

    takes_nan = True
    stride = 1
    pools_globally = False

    root: Tensor
    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    distribution: Tensor
    band_kind: Tensor
    band_diagonals: Tensor
    band_mean: Tensor
    band_std: Tensor

    def __init__(self, config: RandomForestConfig) -> None:
        super().__init__()
        self.config = config
        nodes = config.nodes or config.trees
        leaves = (nodes + config.trees) // 2
        arrays = {
            "root": torch.zeros(config.trees, dtype=torch.int32),
            "feature": torch.full((nodes,), _LEAF, dtype=torch.int16),
            "threshold": torch.zeros(nodes, dtype=torch.float64),
            "left": torch.zeros(nodes, dtype=torch.int32),
            "right": torch.zeros(nodes, dtype=torch.int32),
            "distribution": torch.full((leaves, config.classes), 1.0 / config.classes),
            "band_kind": torch.zeros(config.bands, dtype=torch.int8),
            "band_diagonals": torch.full((config.bands, 2), -1, dtype=torch.int64),
            "band_mean": torch.zeros(config.bands),
            "band_std": torch.ones(config.bands),
        }
        for name, array in arrays.items():
            self.register_buffer(name, array)

    def forward(self, x: Tensor) -> Tensor:
        """Log probabilities float32 (n, classes, h, w)."""
        scales = self._scales()
        images = [self._log_probabilities(filtered_features(image, scales)) for image in x.detach().float().cpu().numpy()]
        return torch.from_numpy(np.stack(images)).to(x.device)

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean of the trees' class shares, float64 (pixels, classes), of features without NaN, float32 (pixels, features)."""
        nodes = tuple(getattr(self, name).cpu().numpy() for name in ("root", "feature", "threshold", "left", "right", "distribution"))
        out = np.zeros((len(features), self.config.classes))
        features = np.ascontiguousarray(features, np.float32)
        parts = [slice(start, start + _CHUNK) for start in range(0, len(features), _CHUNK)]
        with ThreadPoolExecutor(max(1, torch.get_num_threads())) as pool:
            for done in [pool.submit(_walk, features[part], nodes, out[part]) for part in parts]:
                done.result()
        return out

    def _log_probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        flat = features.reshape(len(features), -1)
        valid = np.flatnonzero(~np.isnan(flat).any(0))
        out = np.zeros((self.config.classes, flat.shape[1]), np.float32)
        out[:, valid] = np.log(np.maximum(self.probabilities(flat[:, valid].T), LEAST_PROBABILITY)).T
        return out.reshape(-1, *features.shape[1:])

    def _scales(self) -> BandScales:
        return BandScales(**{one.name: getattr(self, f"band_{one.name}").cpu().numpy() for one in fields(BandScales)})

    def _load_from_state_dict(self, state_dict: Any, prefix: str, local_metadata: Any, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *rest)
        errors: list[str] = rest[-1]
        if not errors and (wrong := self._damage()):
            errors.append(wrong)

    def _damage(self) -> str:
        """What would lead the kernel astray: it follows these numbers without looking; empty when all is well."""
        config, leaf = self.config, self.feature == _LEAF
        own = torch.arange(len(leaf), dtype=torch.int32)
        inner = ~leaf
        if bool((self.root < 0).any() or (self.root >= len(leaf)).any()):
            return "a root is no node"
        if bool((self.feature < _LEAF).any() or (self.feature >= config.bands * FEATURES_A_BAND).any()):
            return "a node asks for a feature that does not exist"
        for side in (self.left, self.right):
            # children stand behind their parent, so that every way ends
            if bool(((side <= own) | (side >= len(leaf)))[inner].any()):
                return "a node's child is no node behind it"
        if bool((self.left < 0)[leaf].any() or (self.left >= len(self.distribution))[leaf].any()):
            return "a leaf has no distribution"
        if bool((self.band_diagonals < -1).any() or (self.band_diagonals >= config.bands).any()):
            return "a correlation has no diagonals"
        numbers = (self.distribution, self.band_mean, self.band_std)
        if not all(bool(one.isfinite().all()) for one in numbers) or bool((self.distribution < 0).any()):
            return "a number is not finite, or a share below 0"
        return ""


def forest_of(fitted: Any, bands: Sequence[BandSpec], *, classes: int, min_leaf: int) -> RandomForest:
    """The arrays of a fitted forest of scikit-learn, whose classes are indexes 0 .. classes - 1; those it never saw get 0."""
    trees = [one.tree_ for one in fitted.estimators_]
    counts = np.array([tree.node_count for tree in trees])
    start = np.cumsum(counts) - counts
    leaf = np.concatenate([tree.children_left for tree in trees]) == _LEAF
    offset = np.repeat(start, counts)
    left, right = (np.concatenate([getattr(tree, side) for tree in trees]) + offset for side in ("children_left", "children_right"))
    left[leaf], right[leaf] = np.arange(int(leaf.sum())), 0
    shares = np.concatenate([tree.value[:, 0] for tree in trees])[leaf]
    distribution = np.zeros((len(shares), classes))
    distribution[:, fitted.classes_.astype(np.int64)] = shares / shares.sum(1, keepdims=True)
    config = RandomForestConfig(bands=len(bands), classes=classes, trees=len(trees), min_leaf=min_leaf, nodes=int(counts.sum()))
    forest = RandomForest(config)
    feature = np.where(leaf, _LEAF, np.concatenate([tree.feature for tree in trees]))
    arrays = {
        "root": start.astype(np.int32),
        "feature": feature.astype(np.int16),
        "threshold": np.where(leaf, 0.0, np.concatenate([tree.threshold for tree in trees])),
        "left": left.astype(np.int32),
        "right": right.astype(np.int32),
        "distribution": distribution.astype(np.float32),
    }
    scales = BandScales.of(bands)
    arrays |= {f"band_{one.name}": getattr(scales, one.name) for one in fields(scales)}
    forest.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    return forest.eval()


@njit(nogil=True, cache=True)
def _walk(features: NDArray[np.float32], nodes: tuple[Any, ...], out: NDArray[np.float64]) -> None:  # pragma: no cover - compiled
    """Mean shares of pixels into `out` (pixels, classes), which is 0."""
    root, feature, threshold, left, right, distribution = nodes
    pixels, classes = out.shape
    for start in range(0, pixels, _BLOCK):
        stop = min(start + _BLOCK, pixels)
        for first in root:
            for pixel in range(start, stop):
                node = first
                while feature[node] >= 0:
                    if features[pixel, feature[node]] <= threshold[node]:
                        node = left[node]
                    else:
                        node = right[node]
                for one in range(classes):
                    out[pixel, one] += distribution[left[node], one]
        for pixel in range(start, stop):
            for one in range(classes):
                out[pixel, one] /= len(root)
