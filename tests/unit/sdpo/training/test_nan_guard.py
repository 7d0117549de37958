from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors import safe_open

from artifacts.errors import InputError
from sdpo.bases.sd15 import StableDiffusion
from sdpo.training.drawing import draw
from sdpo.training.job import train

World = tuple[dict[str, str], Path]
Job = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("safeguard", [None, {"mu": 0.5}])
def test_batch_of_a_step_that_is_not_finite_is_saved(
    tiny_sd15_world: World, tiny_job: Job, safeguard: dict[str, Any] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prediction with one infinity in step 2: the weights are finite, and only the batch tells what happened."""
    job = tiny_job(tiny_sd15_world, safeguard=safeguard, checkpoint_every=1, empty_prompt_share=0.5)
    predict, calls = StableDiffusion.predict, []

    def broken(base: StableDiffusion, denoiser: Any, noisy: Any, timesteps: Any, conditions: Any) -> Any:
        predicted = predict(base, denoiser, noisy, timesteps, conditions)
        if denoiser.training:
            calls.append(noisy)
            if len(calls) == 2:
                predicted = predicted.clone()
                predicted[0, 0, 0, 0] = float("inf")
        return predicted

    monkeypatch.setattr(StableDiffusion, "predict", broken)
    # The drift of the start is measured with the policy, too.
    monkeypatch.setattr("sdpo.training.heldout_drift.HeldoutProbe.measure", lambda *_: {"step": 0})
    with pytest.raises(
        InputError, match=r"variant seed 0: .* not finite.* at step 2; .*; the pairs of this step are in"
    ) as error:
        train(job)
    (file,) = Path(job["root"], "checkpoints").rglob("not-finite-step-00000002.safetensors")
    assert str(file) in str(error.value)
    assert [path.name for path in file.parent.glob("step-*.pt")] == ["step-00000001.pt"]
    with safe_open(file, "pt") as saved:
        about = json.loads(saved.metadata()["about"])
        tensors = {name: saved.get_tensor(name) for name in saved.keys()}  # noqa: SIM118
    assert (about["label"], about["seed"], about["step"]) == ("variant seed 0", 0, 2)
    from sdpo.bases import open_described
    from sdpo.pairs import cache

    base = open_described(tiny_sd15_world[0])
    drawn = draw(base, cache.load(tiny_sd15_world[1], "train"), batch_size=4, empty_prompt_share=0.5, seed=0, step=2)
    for name in ("winner", "loser", "noise", "timesteps"):
        assert torch.equal(tensors[name], getattr(drawn, name)), name
    assert torch.equal(tensors["winner.text"], drawn.winner_conditions["text"])
    index = pd.read_parquet(tiny_sd15_world[1] / "index.parquet")
    own = index[(index["split"] == "train") & (index["label"] == 1)]["pair_id"].to_numpy()
    assert tensors["pair_ids"].tolist() == own[drawn.rows.numpy()].tolist()
