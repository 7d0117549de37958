from __future__ import annotations

from pathlib import Path

import pytest

from artifacts.errors import InputError
from evals.scoring.scorer_settings import STANDARD, resolve


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(
        "scorers:\n  oracle: {}\n  clip: {protocol: sdpo, weights: from/config, dtype: bfloat16}\n"
        "  hpsv2: {weights: w}\n"
    )
    return path


def test_all_means_the_config_or_the_scorers_of_the_paper_and_the_free_ones(config: Path, tmp_path: Path) -> None:
    assert list(resolve("all", config=config)) == ["oracle", "clip", "hpsv2"]
    # Neither the miniature's oracle, which judges its own world only, nor HPS v2.1, which the paper does not use.
    paper, free = ["pickscore", "hpsv2", "imagereward", "aesthetic", "clip"], ["blank", "jpeg_size"]
    assert list(STANDARD) == [*paper, *free]
    for name in paper:
        (tmp_path / name).mkdir()
    assert list(resolve("all", weights_dir=tmp_path)) == [*paper, *free]


def test_prompt_sets_of_a_benchmark_are_no_setting_of_a_scorer(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("scorers: {oracle: {prompt_sets: [seen]}}\n")
    assert resolve("all", config=path) == {"oracle": {"protocol": "world"}}


def test_option_beats_folder_beats_config(config: Path, tmp_path: Path) -> None:
    (tmp_path / "clip").mkdir()
    (tmp_path / "hpsv2").mkdir()
    settings = resolve("clip,hpsv2", config=config, weights=["clip=mine"], weights_dir=tmp_path)
    assert settings["clip"] == {"protocol": "sdpo", "weights": "mine", "dtype": "bfloat16"}
    assert settings["hpsv2"] == {"protocol": "sdpo", "weights": str(tmp_path / "hpsv2")}
    assert resolve("clip", config=config, dtype="float32")["clip"]["dtype"] == "float32"
    # Without a protocol `sdpo` the scorer's first.
    assert resolve("oracle", config=config)["oracle"] == {"protocol": "world"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scorers: {clip: {weight: x}}", r"c\.yaml: scorers\.clip\.weight: unknown key.*did you mean 'weights'\?"),
        ("scorers: {clip: x}", r"c\.yaml: scorers\.clip is 'x', expected keys with values"),
        ("scorers: {clip: {protocol: 5}}", r"c\.yaml: scorers\.clip\.protocol is 5, expected text"),
        ("scorers: {clip: {dtype: 5}}", r"scorers\.clip\.dtype is 5, expected text"),
        ("scorers: {clip: {implementation: 3}}", r"scorers\.clip\.implementation is 3, expected text"),
        ("scorers: {clip: {weights: [a]}}", r"scorers\.clip\.weights is \['a'\], expected text"),
        ("scorers: {hpsv2: {options: 5}}", r"scorers\.hpsv2\.options is 5, expected keys with values"),
        ("scorers: {clip: {5: x}}", r"scorers\.clip\.5: unknown key: expected one of protocol"),
        ("base: {}", r"c\.yaml: no scorers"),
        ("- a", r"c\.yaml: expected keys with values, found list"),
        ("a: [", r"c\.yaml: line 1, column 5: not YAML"),
        ("scorers: {clip: {protocol: x, weights: y}}", r"scorer 'clip': unknown protocol 'x'"),
        ("scorers: {clip: {}}", r"no weights of clip; give --weights clip=PATH"),
    ],
)
def test_wrong_configs(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        resolve("all", config=tmp_path / "c.yaml")


@pytest.mark.parametrize(
    ("wanted", "weights", "message"),
    [
        ("clip,clip", ["clip=a"], "--scorers: 'clip' is given twice"),
        (",", [], "names no scorer: expected all or some of aesthetic"),
        ("clip", ["clip=a", "hpsv=b"], "--weights hpsv=…: no such scorer among clip"),
        ("clip", ["clip=a", "clip=b"], "--weights: scorer 'clip' is given twice"),
    ],
)
def test_wrong_options(wanted: str, weights: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        resolve(wanted, weights=weights)
