"""The examples of CONTRIBUTING.md work as printed: each is one file that its package finds."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from types import ModuleType

import pytest
import torch
from PIL import Image

import evals.prompts
import evals.scorers
import sdpo.bases
import sdpo.objectives
import sdpo.pairs
from artifacts.contracts import read_table
from artifacts.errors import InputError
from evals.scoring.scorer_check import Subject
from evals.scoring.scorer_check import failures as scorer_failures
from sdpo.objective_check.command import failures as objective_failures
from sdpo.training.loggers import LoggedRun

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"`(\S+?\.py)`:?\n\n```python\n(.*?)```", PAGE, flags=re.S))


@pytest.fixture
def dropped_in(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The package of an example, with its file found beside the package's own."""
    file = Path(request.param)
    (tmp_path / file.name).write_text(EXAMPLES[request.param], encoding="utf-8")
    package = importlib.import_module(".".join(file.parent.parts))
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    return package


def test_there_is_one_example_of_each_kind() -> None:
    kinds = {str(Path(file).parent) for file in EXAMPLES}
    assert kinds == {
        *("sdpo/objectives", "sdpo/bases", "sdpo/pairs/sources", "sdpo/training/loggers"),
        *("evals/scorers", "evals/prompts/sources"),
    }


@pytest.mark.parametrize("dropped_in", ["sdpo/objectives/hinge.py"], indirect=True)
def test_objective(dropped_in: ModuleType) -> None:
    assert "hinge" in sdpo.objectives.names()
    objective = sdpo.objectives.create("hinge", beta=0.5, safeguard={"mu": 1.0})
    zero, one = torch.zeros(1, 2), torch.ones(1, 2)
    winner, loser = zero.clone().requires_grad_(), (2 * one).requires_grad_()
    out = objective(sdpo.objectives.PairPrediction(winner, loser, zero, zero, one, one))
    # All errors are 1: no margin, so the hinge is 1; its slope in L_w is beta, and the slope of L_w is -1 a value.
    assert out.loss.item() == pytest.approx(1.0)
    out.loss.backward()
    assert winner.grad is not None
    assert winner.grad.sum().item() == pytest.approx(-1.0)
    # What `sdpo check-objective hinge` says.
    assert [objective_failures(sdpo.objectives.create("hinge", beta=beta)) for beta in (0.5, 20.0)] == [[], []]


@pytest.mark.parametrize("dropped_in", ["evals/scorers/brightness.py"], indirect=True)
def test_scorer(dropped_in: ModuleType) -> None:
    module = evals.scorers.load("brightness")
    scorer = evals.scorers.create("brightness", protocol=module.PROTOCOLS[0])
    half = Image.new("L", (4, 4), 0)
    half.paste(255, (0, 0, 2, 4))
    assert scorer.score([Image.new("RGB", (4, 4), "white"), half], ["", ""]).tolist() == [1.0, 0.5]
    assert len(scorer.fingerprint) == 64
    # What `evals check-scorer brightness` says.
    assert scorer_failures(Subject("brightness", "plain")) == []


@pytest.mark.parametrize("dropped_in", ["evals/prompts/sources/colours.py"], indirect=True)
def test_prompt_source_without_a_file(dropped_in: ModuleType, tmp_path: Path) -> None:
    out = tmp_path / "set.parquet"
    evals.prompts.write({"prompt_set": "s", "source": "colours", "limit": 2, "options": {}, "out": str(out)})
    assert read_table(out, "prompts")["prompt"].tolist() == ["a red balloon", "a green balloon"]


@pytest.mark.parametrize("dropped_in", ["evals/prompts/sources/markdown_list.py"], indirect=True)
def test_prompt_source(dropped_in: ModuleType, tmp_path: Path) -> None:
    text = "\ufeff- a tree\r\n\r\n# animal\r\n- a cat,\u2028sitting\r\nnot this\r\n"
    (tmp_path / "list.md").write_bytes(text.encode())
    out = tmp_path / "set.parquet"
    spec = {"prompt_set": "s", "source": "markdown_list", "limit": None, "out": str(out)}
    evals.prompts.write({**spec, "options": {"path": str(tmp_path / "list.md")}})
    table = read_table(out, "prompts")
    assert table["prompt"].tolist() == ["a tree", "a cat,\u2028sitting"]
    assert table["category"].tolist() == ["", "animal"]
    (tmp_path / "list.md").write_text("- \n")
    with pytest.raises(InputError, match="prompt 0, from 0, is empty"):
        evals.prompts.write({**spec, "options": {"path": str(tmp_path / "list.md")}})
    with pytest.raises(InputError, match="path is None, expected the path of a Markdown file"):
        evals.prompts.write({**spec, "options": {}})


@pytest.mark.parametrize("dropped_in", [name for name in EXAMPLES if name.startswith("sdpo/bases")], indirect=True)
def test_base_family(dropped_in: ModuleType, request: pytest.FixtureRequest, tiny_sd15: Path) -> None:
    name = Path(request.node.callspec.params["dropped_in"]).stem
    assert name in sdpo.bases.names()
    base = sdpo.bases.open_base(name, tiny_sd15)
    first, second = (base.draw_timesteps(4000, torch.Generator().manual_seed(3)) for _ in range(2))
    steps = 1000
    assert torch.equal(first, second)
    assert first.min() >= 0 and first.max() < steps
    # Of a logistic of a normal 0.5 ± 0.21, of a uniform distribution 0.5 ± 0.29.
    spread = 0.21 if name == "sd15_mid_noise" else 0.29
    assert first.float().std().item() / steps == pytest.approx(spread, abs=0.01)


@pytest.mark.parametrize(
    "dropped_in", [name for name in EXAMPLES if name.startswith("sdpo/pairs/sources")], indirect=True
)
def test_pair_source(dropped_in: ModuleType, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    name = Path(request.node.callspec.params["dropped_in"]).stem
    assert name in sdpo.pairs.names()
    for colour in ("red", "blue"):
        Image.new("RGB", (20, 10), colour).save(tmp_path / f"{colour}.png")
    row = {"prompt": "a square", "images": ["red.png", "blue.png"], "label": 0.5, "split": "heldout"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    options = {"path": str(tmp_path / "pairs.jsonl"), "size": 8}
    (pair,) = sdpo.pairs.read(name, options, base_path=tmp_path)
    assert (pair.prompt, pair.label, pair.split) == ("a square", 0.5, "heldout")
    assert [(image.size, image.getpixel((4, 4))) for image in pair.images] == [
        ((8, 8), (255, 0, 0)),
        ((8, 8), (0, 0, 255)),
    ]
    (tmp_path / "pairs.jsonl").write_text(json.dumps({**row, "images": ["red.png", "no.png"]}), encoding="utf-8")
    with pytest.raises(InputError, match=r"pairs\.jsonl, line 1: "):
        list(sdpo.pairs.read(name, options, base_path=tmp_path))
    (tmp_path / "blue.png").write_bytes(b"no image")
    for wrong in (row, {**row, "images": ["red.png"] * 2, "label": 2}):
        (tmp_path / "pairs.jsonl").write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(InputError, match=r"pairs\.jsonl, line 1: "):
            list(sdpo.pairs.read(name, options, base_path=tmp_path))


@pytest.mark.parametrize("dropped_in", ["sdpo/training/loggers/tensorboard.py"], indirect=True)
def test_logger(dropped_in: ModuleType, tmp_path: Path) -> None:
    """The second process goes on from step 2: what the first had logged after it is passed over."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for step, losses in ((0, (0.5, 0.25, 0.125)), (2, (0.0625,))):
        run = LoggedRun("toy", "mini/dmpo/seed0", "d" * 64, step, tmp_path, {})
        logger = dropped_in.REGISTRY.load("tensorboard").create(run)
        for i, loss in enumerate(losses):
            logger.log(step + 1 + i, {"training/loss": loss, "training/margin": None})
        logger.close(finished=True)
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert events.Tags()["scalars"] == ["training/loss"]
    assert [(event.step, event.value) for event in events.Scalars("training/loss")] == [
        (1, 0.5),
        (2, 0.25),
        (3, 0.0625),
    ]
