from __future__ import annotations

from pathlib import Path

from artifacts import layout


def test_paths_of_a_benchmark() -> None:
    name = layout.model_name("mini", "dmpo+sdpo", 3)
    assert name == "mini/dmpo+sdpo/seed3"
    assert layout.base_model_name("mini") == "mini/base"
    root = "results/toy"
    assert layout.prompts(root, "seen") == Path("results/toy/prompts/seen.parquet")
    assert layout.pairs(root, "renders", "mini") == Path("results/toy/pairs/renders/mini")
    assert layout.model(root, name) == Path("results/toy/models/mini/dmpo+sdpo/seed3")
    assert layout.images(root, name, "seen") == Path("results/toy/images/mini/dmpo+sdpo/seed3/seen")
    assert layout.scores(root, "clip", name, "seen") == Path(
        "results/toy/scores/clip/mini/dmpo+sdpo/seed3/seen.parquet"
    )


def test_state_of_another_digest_lies_elsewhere() -> None:
    one, two = (layout.checkpoints("r", "mini/dmpo/seed0", digest * 64) for digest in "ab")
    assert one == Path("r/checkpoints/mini/dmpo/seed0/aaaaaaaaaaaaaaaa")
    assert one != two
