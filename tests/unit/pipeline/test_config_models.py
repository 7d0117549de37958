"""The blocks ``models`` and ``other_bases``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evals.tables.comparison import CompareSpec
from pipeline.config import ConfigError, validate
from pipeline.jobs import Plan

pytestmark = pytest.mark.usefixtures("few_names")

Config = dict[str, Any]
HUB = "owner/released@0123abc"


@pytest.fixture
def elsewhere(config: Config) -> Config:
    """Models of two bases beside the variants of ``config``, and nothing wrong."""
    other = {"name": "large", "family": "stable_diffusion", "path": "owner/large@1", "vae": "owner/vae@2"}
    config["other_bases"] = [other]
    config["models"] = [
        {"name": "released", "source": HUB, "file": "sd1.5/unet.pth", "objective": "dmpo", "baseline": "dmpo"},
        {"name": "large-dpo", "base": "large", "source": "models/large-dpo.pth", "sha256": "0" * 64},
        {"name": "large-dpo+sdpo", "base": "large", "source": HUB, "safeguard": True, "baseline": "large-dpo"},
    ]
    return config


def nothing_trained(config: Config) -> Config:
    for key in ("variants", "pairs", "seeds", "training"):
        del config[key]
    del config["models"][0]["baseline"]
    return config


def errors(config: Config, folder: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        validate(config, check_files=folder is not None, folder=folder or ".")
    return list(caught.value.lines)


def test_models_are_drawn_scored_and_compared_but_not_trained(elsewhere: Config) -> None:
    elsewhere["models"][1]["source"] = "models/deep/large-dpo.pth"
    plan = Plan(validate(elsewhere, check_files=False))
    jobs = {(job.stage, job.name): job.spec for job in plan.jobs()}
    assert {name for stage, name in jobs if stage == "train"} == {
        f"{variant}/{seed}" for variant in ("sft", "dmpo", "dmpo+sdpo") for seed in (0, 1)
    }
    spec = jobs["generate", "large/large-dpo/seen"]
    assert spec["base"] == elsewhere["other_bases"][0]
    assert spec["models"] == ["large/large-dpo"]
    assert spec["sources"] == {
        "large/large-dpo": {"source": "models/deep/large-dpo.pth", "file": None, "sha256": "0" * 64}
    }
    # The base of other models is a model itself, without weights of its own.
    assert "sources" not in jobs["generate", "large/base/own"]
    assert jobs["generate", "large/base/own"]["base"]["vae"] == "owner/vae@2"
    assert jobs["generate", "miniature/released/own"]["base"]["name"] == "miniature"
    assert jobs["score", "miniature/released/seen/oracle"]["models"] == ["miniature/released"]
    assert len([name for stage, name in jobs if stage == "generate"]) == (1 + 6 + 4) * 2


def test_what_stands_beside_a_weight_file_is_read_with_it(
    elsewhere: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("large-dpo.pth", "config.json", "adapter_config.json", "notes.txt"):
        (tmp_path / "models" / name).write_text("{}")
    for job in Plan(validate(elsewhere, check_files=False)).jobs():
        if (job.stage, job.name) == ("generate", "large/large-dpo/seen"):
            found = {name for name in job.sources if name.startswith("models/")}
    assert found == {"models/large-dpo.pth", "models/config.json", "models/adapter_config.json"}


def test_rows_of_the_table_and_what_each_is_compared_with(elsewhere: Config) -> None:
    elsewhere["models"][1]["source"] = HUB
    comparison = CompareSpec(**Plan(validate(elsewhere, check_files=False)).compare_spec()).comparison
    assert [(m.name, m.variant, m.seed, m.trained) for m in comparison.models[-4:]] == [
        ("miniature/released", "released", None, False),
        ("large/base", "large", None, False),
        ("large/large-dpo", "large-dpo", None, False),
        ("large/large-dpo+sdpo", "large-dpo+sdpo", None, False),
    ]
    assert [m.safeguard for m in comparison.models[-3:]] == [False, False, True]
    pairs = [(pair.a, pair.b) for pair in comparison.pairs]
    assert ("released", "dmpo") in pairs
    assert ("released", "base") in pairs
    assert ("large-dpo+sdpo", "large-dpo") in pairs
    # Against its own base, not against the one that is trained from.
    assert ("large-dpo", "large") in pairs
    assert ("large-dpo", "base") not in pairs
    assert not any(a == "large" for a, _ in pairs)


def test_nothing_needs_to_be_trained(elsewhere: Config) -> None:
    elsewhere["models"][1]["source"] = HUB
    plan = Plan(validate(nothing_trained(elsewhere), check_files=False))
    assert {job.stage for job in plan.jobs()} == {"prompts", "generate", "score", "compare", "report", "track"}
    assert plan.report_files() == [
        f"results/tiny/{name}"
        for name in (
            "report/index.html",
            "report/degenerate.csv",
            *(f"figures/{figure}.png" for figure in ("grid", "differences", "ranks")),
        )
    ]
    assert plan.report_spec()["grid"]["seed"] == 0


def test_without_models_and_variants_there_is_nothing_to_do(elsewhere: Config) -> None:
    nothing_trained(elsewhere)
    del elsewhere["models"], elsewhere["other_bases"]
    assert errors(elsewhere) == ["variants: expected at least 1, or a model in `models`"]


def test_a_sharded_model_is_drawn_by_jobs_that_differ_in_their_share_alone(elsewhere: Config) -> None:
    elsewhere["models"][1]["source"] = HUB
    elsewhere["execution"] |= {"generation_shards": 3}
    jobs = {(job.stage, job.name): job.spec for job in Plan(validate(elsewhere, check_files=False)).jobs()}
    shares = [jobs["generate", f"large/large-dpo/seen.{index}"] for index in range(3)]
    assert [spec.pop("shard") for spec in shares] == [[0, 3], [1, 3], [2, 3]]
    assert shares[0] == shares[1] == shares[2]
    assert jobs["collect", "large/large-dpo/seen"]["shards"] == 3
    assert [len([1 for stage, _ in jobs if stage == s]) for s in ("generate", "collect")] == [3 * 22, 22]


def _model(index: int = 0, **changed: Any) -> Callable[[Config], object]:
    return lambda config: config["models"][index].update(changed)


def _base(**changed: Any) -> Callable[[Config], object]:
    return lambda config: config["other_bases"][0].update(changed)


CASES: dict[str, tuple[Callable[[Config], object], str]] = {
    "name of a variant": (
        _model(name="sft"),
        'models[0].name = "sft": this name is taken by variants[0]; choose another',
    ),
    "name of the untrained base": (
        _model(name="base"),
        'models[0].name = "base": this name is taken by the untrained base; choose another',
    ),
    "name of another base": (
        _model(name="large"),
        'models[0].name = "large": this name is taken by other_bases[0]; choose another',
    ),
    "unknown base": (
        _model(2, base="larg"),
        "models[2].base = \"larg\": unknown base: expected one of miniature, large; did you mean 'large'?",
    ),
    "unknown baseline": (
        _model(2, baseline="large-dop"),
        'models[2].baseline = "large-dop": unknown variant or model: expected one of sft, dmpo, dmpo+sdpo, released, '
        "large-dpo; did you mean 'large-dpo'?",
    ),
    "hub id without revision": (
        _model(source="owner/released"),
        'models[0].source = "owner/released": no such file or folder; a hub id needs its revision: '
        "owner/released@<commit>",
    ),
    "base without revision": (
        _base(vae="owner/vae"),
        'other_bases[0].vae = "owner/vae": no such file or folder; a hub id needs its revision: owner/vae@<commit>',
    ),
    "digest": (_model(sha256="0" * 63), "expected 64 hexadecimal digits, a to f in lower case"),
    "unknown key": (
        _model(weights="x"),
        "models[0].weights: unknown key: expected one of name, base, source, file, sha256, objective, safeguard, "
        "baseline",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_each_error_is_one_line(elsewhere: Config, case: str) -> None:
    elsewhere["models"][1]["source"] = HUB
    change, line = CASES[case]
    change(elsewhere)
    found = errors(elsewhere)
    assert len(found) == 1
    assert found[0].endswith(line)


def test_a_base_that_no_model_has(elsewhere: Config) -> None:
    del elsewhere["models"][1:]
    assert errors(elsewhere) == ["other_bases[0]: no model has base 'large'; leave it out"]


def test_family_with_a_generator_of_its_own(elsewhere: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.config.registries.generators", lambda: ["miniature"])
    elsewhere["models"][1]["source"] = HUB
    elsewhere["execution"] |= {"generation_shards": 2}
    assert errors(elsewhere) == [
        "execution.generation_shards = 2: family 'miniature' draws in one job; expected 1",
        "models[0]: family 'miniature' takes no models from elsewhere; give another base",
    ]


def test_flow_models_are_drawn_in_one_way(elsewhere: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.config.external_checks.FLOWS", [elsewhere["base"]["family"]])
    elsewhere["models"][1]["source"] = HUB
    elsewhere["generation"] = {"protocol": "sdpo"}
    assert errors(elsewhere) == [
        'generation.protocol = "sdpo": no flow model is drawn with it; expected clean',
        'generation.scheduler = "ddim": no flow model is drawn with it; expected euler',
    ]
    elsewhere["generation"] = {"protocol": "sdpo", "scheduler": "euler"}
    assert len(errors(elsewhere)) == 1
    elsewhere["generation"]["protocol"] = "clean"
    name = next(iter(elsewhere["prompt_sets"]))
    elsewhere["prompt_sets"]["again"] = {"shows": name, "generation": {"scheduler": "ddim"}}
    assert errors(elsewhere) == [
        'prompt_sets.again.generation.scheduler = "ddim": no flow model is drawn with it; expected euler'
    ]


def test_missing_local_weights(elsewhere: Config, tmp_path: Path) -> None:
    for path in ("resources/miniature/base", "resources/miniature/pickscore", "models/here"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "prompts.txt").touch()
    elsewhere["models"][1]["source"] = "./models/gone.pth"
    elsewhere["models"][2].update(source="./models/here", file="unet")
    assert errors(elsewhere, tmp_path) == [
        'models[1].source = "./models/gone.pth": no such file or folder; paths are relative to where snakemake is '
        "started",
        'models[2].file = "unet": ./models/here holds no such file or folder; correct it or leave it out',
    ]
