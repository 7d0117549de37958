"""An untrained miniature base, and a small pair cache made with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    from worlds.miniature import tokenizer
    from worlds.miniature.base_training import (
        BaseModules,
        build_autoencoder,
        build_scheduler,
        build_text_encoder,
        build_unet,
    )

    torch.manual_seed(0)
    words = tokenizer.build()
    folder = tmp_path_factory.mktemp("base") / "miniature"
    BaseModules(build_autoencoder(), build_text_encoder(words), words, build_unet(), build_scheduler()).save(folder)
    return folder


@pytest.fixture(scope="session")
def cache_spec(base_path: Path) -> Callable[..., dict[str, Any]]:
    """The job of a pair cache of 40 renders, 8 of them held out, about a third of them ties."""

    def make(out: Path, **options: Any) -> dict[str, Any]:
        return {
            "stage_version": 1,
            "dataset": "renders",
            "source": "miniature_renders",
            "options": {"pairs": 40, "heldout": 8, "tie_below": 0.1, **options},
            "base": {"name": "mini", "family": "miniature", "path": str(base_path)},
            "out": str(out),
        }

    return make


@pytest.fixture(scope="session")
def pair_cache(tmp_path_factory: pytest.TempPathFactory, cache_spec: Callable[..., dict[str, Any]]) -> Path:
    """Not to be changed."""
    from sdpo.pairs import cache

    folder = tmp_path_factory.mktemp("pairs") / "renders"
    cache.build(cache_spec(folder))
    return folder


@pytest.fixture
def job(base_path: Path, pair_cache: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The job of a training of 6 steps with 4 pairs each, logged and saved often."""

    def make(
        *,
        root: str = "run",
        seeds: tuple[int, ...] = (0,),
        objective: str = "diffusion_dpo",
        pairs: Path = pair_cache,
        safeguard: dict[str, Any] | None = None,
        **training: Any,
    ) -> dict[str, Any]:
        return {
            "stage_version": 1,
            "base": {"name": "mini", "family": "miniature", "path": str(base_path)},
            "pairs": str(pairs),
            "variant": "variant",
            "objective": {
                "name": objective,
                "parameters": {} if objective == "sft" else {"beta": 2000.0},
                "safeguard": safeguard,
            },
            "training": {
                "steps": 6,
                "batch_size": 4,
                "learning_rate": 1e-4,
                "warmup_steps": 2,
                "optimizer": "adamw",
                "weight_decay": 0.01,
                "max_grad_norm": 1.0,
                "empty_prompt_share": 0.2,
                "log_every": 1,
                "checkpoint_every": 2,
                "drift_every": 3,
                "heldout_pairs": 64,
                **training,
            },
            "root": str(tmp_path / root),
            "seeds": list(seeds),
        }

    return make


@pytest.fixture(scope="session")
def build_tiny_cache() -> Callable[..., None]:
    """Builds a pair cache of 14 renders, 4 of them held out, mirrored too, with a base of ``tiny_world``."""
    from sdpo.pairs import cache

    def build(base: dict[str, str], out: Path, **encoding: Any) -> None:
        cache.build(
            {
                "stage_version": 1,
                "dataset": "renders",
                "source": "miniature_renders",
                "options": {"pairs": 14, "heldout": 4},
                "base": base,
                "out": str(out),
                "encoding": {"flips": True, **encoding},
            }
        )

    return build


@pytest.fixture(scope="session", params=["sd15", "sdxl"])
def tiny_world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], Path]:
    """A base shaped like Stable Diffusion 1.5 or XL, and a pair cache made with it; not to be changed."""
    return _tiny_world(request, tmp_path_factory, request.param)


@pytest.fixture(scope="session")
def tiny_sd15_world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, str], Path]:
    """A base shaped like Stable Diffusion 1.5, and a pair cache made with it; not to be changed."""
    return _tiny_world(request, tmp_path_factory, "sd15")


@pytest.fixture(scope="session", params=["sd3", "flux", "ovis_image", "ovis_u1"])
def tiny_flow_world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dict[str, str], Path]:
    """A base of rectified flow, and a pair cache made with it; not to be changed."""
    return _tiny_world(request, tmp_path_factory, request.param)


def _tiny_world(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, family: str
) -> tuple[dict[str, str], Path]:
    flows = request.getfixturevalue("tiny_flows")
    path = flows.get(family) or request.getfixturevalue(f"tiny_{family}")
    base: dict[str, Any] = {"name": "tiny", "family": family, "path": str(path)}
    if family == "ovis_u1":
        base["language"] = request.getfixturevalue("tiny_pipelines").ovis_u1_language()
    folder = tmp_path_factory.mktemp("pairs") / family
    request.getfixturevalue("build_tiny_cache")(base, folder)
    return base, folder


@pytest.fixture
def tiny_job(job: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """The job of a training as of ``job`` with a base of ``tiny_world``: 4 steps of 4 pairs."""

    def make(world: tuple[dict[str, str], Path], **settings: Any) -> dict[str, Any]:
        base, pairs = world
        return {**job(pairs=pairs, **{"steps": 4, "heldout_pairs": 4, **settings}), "base": base}

    return make
