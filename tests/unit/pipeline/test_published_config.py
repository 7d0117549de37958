"""Configs that are shipped and whose weights are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import ConfigError, load
from pipeline.jobs import Plan

FOLDER = Path(__file__).parents[3] / "config"
CONFIG = FOLDER / "published.yaml"


def test_it_passes_every_check_but_for_its_weights() -> None:
    plan = Plan(load(CONFIG, check_files=False))
    models = [model.name for model in plan.compared_models()]
    assert [name for name in models if name.startswith("sd15/")] == [
        "sd15/base",
        "sd15/sd15-diffusion-dpo",
        "sd15/sd15-diffusion-dpo+sdpo",
        "sd15/sd15-dspo+sdpo",
        "sd15/sd15-dmpo+sdpo",
        "sd15/sd15-kto",
        "sd15/sd15-spo",
    ]
    assert len(models) == 14
    released = {m.source.partition("@")[0] for m in plan.benchmark.models if m.safeguard}
    assert released == {"AIDC-AI/Diffusion-SDPO"}
    files = sorted(m.file for m in plan.benchmark.models if m.safeguard and m.file)
    assert files == [
        f"{base}/{method}/unet.pth" for base in ("sd1.5", "sdxl") for method in ("diffusion-dpo", "dmpo", "dspo")
    ]


def test_it_draws_as_the_published_evaluation_does() -> None:
    jobs = [job for job in Plan(load(CONFIG, check_files=False)).jobs() if job.stage == "generate"]
    # 14 models on all three prompt sets, each shared by 8 jobs, so that weights are loaded once a GPU.
    assert len(jobs) == 14 * 8
    assert jobs[0].spec["prompt_sets"] == ["papv2", "hpdv2", "partiprompts"]
    generation = jobs[0].spec["generation"]
    assert (generation["protocol"], generation["scheduler"], generation["steps"]) == ("sdpo", "euler", 50)
    assert (generation["guidance_scale"], generation["seed"], generation["dtype"]) == (7.5, 0, "bfloat16")
    bases = {job.spec["base"]["name"]: job.spec["base"].get("vae") for job in jobs}
    assert bases["sd15"] is None
    assert bases["sdxl"].startswith("madebyollin/sdxl-vae-fp16-fix@")


def test_ovis_u1_waits_for_code_that_was_read_and_its_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(FOLDER / "paper-ovis-u1.yaml")
    lines = [line for line in caught.value.lines if "base." in line]
    assert [line.partition(": ")[2].partition(" = ")[0] for line in lines] == ["base.path", "base.language.python"]
    (tmp_path / "weights/ovis-u1").mkdir(parents=True)
    config: dict[str, Any] = {
        "model_type": "ovis_u1",
        "visual_generator_config": {"vae_config": {}, "in_channels": 16, "out_channels": 16},
    }
    (tmp_path / "weights/ovis-u1/config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"base.language.allow_remote_code is false, but prompts of Ovis-U1 are"):
        load(FOLDER / "paper-ovis-u1.yaml", read_files=True)


@pytest.mark.parametrize("name", ["paper-sd3", "paper-ovis-u1"])
def test_bases_of_flow_have_the_objectives_of_the_paper(name: str) -> None:
    plan = Plan(load(FOLDER / f"{name}.yaml", check_files=False))
    assert {variant: plan.baseline(variant) for variant in plan.variants} == {
        **dict.fromkeys(["sft", "diffusion-dpo", "dmpo"]),
        **{f"{variant}+sdpo": variant for variant in ("diffusion-dpo", "dmpo")},
    }
    assert plan.benchmark.generation.protocol == "clean"


def test_nothing_is_trained() -> None:
    assert {job.stage for job in Plan(load(CONFIG, check_files=False)).jobs()} == {
        *("prompts", "generate", "collect", "score", "compare", "report", "track")
    }


@pytest.mark.parametrize("name", ["published", "paper-sd15", "paper-sdxl", "paper-sd3"])
def test_what_is_missing_is_the_weights_of_the_scorers_and_one_more_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        load(FOLDER / f"{name}.yaml")
    assert [line.rpartition("; ")[2] for line in caught.value.lines] == [
        *(
            f"fetch it with `evals weights fetch {scorer} --to weights`"
            for scorer in ("pickscore", "hpsv2", "aesthetic", "clip", "imagereward")
        ),
        # The pairs of what is trained, or the published figures.
        "paths are relative to where snakemake is started",
    ]
    file = caught.value.lines[-1].partition('"')[2].partition('"')[0]
    (tmp_path / file).mkdir(parents=True)
    for scorer in ("pickscore", "hpsv2", "aesthetic", "clip", "imagereward"):
        (tmp_path / "weights" / scorer).mkdir(parents=True)
    assert load(FOLDER / f"{name}.yaml").benchmark


@pytest.mark.parametrize(
    ("name", "learning_rate", "betas", "mu"),
    [
        ("paper-sd15", 1e-8, [5000, 0.001, 2000], [0.9, 0.2, 0.9]),
        ("paper-sdxl", 1e-9, [5000, 5000, 6000], [0.6, 0.6, 0.6]),
    ],
)
def test_the_papers_variants_stand_beside_their_baselines(
    name: str, learning_rate: float, betas: list[float], mu: list[float]
) -> None:
    plan = Plan(load(FOLDER / f"{name}.yaml", check_files=False))
    assert plan.benchmark.base.family == name.partition("-")[2]
    names = ["diffusion-dpo", "dspo", "dmpo"]
    assert {variant: plan.baseline(variant) for variant in plan.variants} == {
        **dict.fromkeys(["sft", *names]),
        **{f"{variant}+sdpo": variant for variant in names},
    }
    for variant, beta, share in zip(names, betas, mu, strict=True):
        for spec in (plan.train_spec(variant, (0,)), plan.train_spec(f"{variant}+sdpo", (0,))):
            assert spec["objective"]["parameters"]["beta"] == beta
            training = spec["training"]
            assert (training["learning_rate"], training["batch_size"], training["steps"]) == (learning_rate, 2048, 2000)
        assert spec["objective"]["safeguard"]["mu"] == share
        assert spec["objective"]["safeguard"]["granularity"] == "microbatch"
