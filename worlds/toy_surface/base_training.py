"""Pretraining of the base: velocity fields of the whole surface, one a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from artifacts.progress import progress
from artifacts.random_streams import stream
from worlds.toy_surface.mlp_stack import HIDDEN, LAYERS, initial, layer_sizes, predict

if TYPE_CHECKING:
    from torch import Tensor

_INITIAL, _STEP = 21, 22


@dataclass(frozen=True)
class BaseRecipe:
    """As in arXiv 2608.20011, App. E.1: Adam at 1e-3, 10 000 steps of 512 fresh points, nothing clipped.

    Attributes:
        models: K, one a seed from ``seed`` on.
        layers: linear layers; the paper says "3-layer MLP".
    """

    seed: int = 0
    models: int = 5
    steps: int = 10_000
    batch_size: int = 512
    learning_rate: float = 1e-3
    hidden: int = HIDDEN
    layers: int = LAYERS


def pretrain(recipe: BaseRecipe) -> Tensor:
    """Parameters (K, P) of the pretrained models; the loss is the squared norm of v − (ε − x0), summed over x, y, z."""
    import numpy as np
    import torch

    from worlds.toy_surface.surface import sample

    sizes = layer_sizes(recipe.hidden, recipe.layers)
    seeds = range(recipe.seed, recipe.seed + recipe.models)
    models = torch.nn.Parameter(torch.stack([initial(sizes, stream(_INITIAL, seed)) for seed in seeds]))
    optimizer = torch.optim.Adam([models], lr=recipe.learning_rate, fused=True)
    for step in progress(range(1, recipe.steps + 1), label="pretrain", unit="step"):
        inputs, targets = [], []
        for seed in seeds:
            random = np.random.default_rng([_STEP, seed, step])
            clean = torch.from_numpy(sample("all", recipe.batch_size, random)).float()
            noise = torch.from_numpy(random.standard_normal((recipe.batch_size, 3), dtype=np.float32))
            share = torch.from_numpy(random.random((recipe.batch_size, 1), dtype=np.float32))
            inputs.append(torch.cat([(1.0 - share) * clean + share * noise, share], dim=1))
            targets.append(noise - clean)
        optimizer.zero_grad()
        residual = predict(models, torch.stack(inputs).mT, sizes) - torch.stack(targets).mT
        # The sum over models leaves each with the gradient of its own loss.
        residual.square().sum().div(recipe.batch_size).backward()
        optimizer.step()
    return models.detach()
