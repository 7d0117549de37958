"""``evals check-scorer``: what every scorer holds, and a line for each mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from evals.cli import main
from evals.scorers import load, names
from evals.scoring.scorer_check import Subject, failures

Checked = Callable[..., tuple[int, list[str]]]

PLUG_IN = """
import numpy as np
from evals.networks.interface import check_lengths, fingerprint

PROTOCOLS = ("plain", "squared")
NEEDS_WEIGHTS = False
VERSION = 1
DEFAULTS = {"upside_down": False}

class Odd:
    def __init__(self, protocol, options):
        self.protocol, self.options = protocol, options
        self.fingerprint = fingerprint(
            scorer="odd", version=VERSION, protocol=protocol, files={}, preprocessing=options, dtype="float64"
        )

    def score(self, images, prompts):
        check_lengths(len(images), len(prompts))
        rated = np.array([np.asarray(i.convert("L"), dtype=np.float64).mean() / 255 for i in images], dtype=np.float64)
        rated = 1 - rated if self.options["upside_down"] else rated
        return rated ** 2 if self.protocol == "squared" else rated

def create(*, protocol, options, **_):
    return Odd(protocol, options)
"""


@pytest.fixture
def checked(plug_in: Callable[..., str], capsys: pytest.CaptureFixture[str]) -> Checked:
    """Exit status and lines of ``evals check-scorer`` on the plug-in with a piece replaced."""

    def check(old: str = "", new: str = "", *more: str) -> tuple[int, list[str]]:
        assert old in PLUG_IN
        plug_in("evals.scorers", "odd", PLUG_IN.replace(old, new) if old else PLUG_IN)
        status = main(["check-scorer", "odd", *more])
        shown = capsys.readouterr()
        return status, (shown.out + shown.err).splitlines()

    return check


def test_a_plug_in_that_is_right_passes(checked: Checked) -> None:
    assert checked() == (0, ["odd plain float32: ok"])


@pytest.mark.parametrize("name", ["blank", "jpeg_size"])
def test_free_scorers_pass(name: str) -> None:
    assert failures(Subject(name, load(name).PROTOCOLS[0])) == []


@pytest.mark.parametrize("name", [name for name in names() if load(name).NEEDS_WEIGHTS and name != "hpsv21"])
def test_scorers_with_a_model_pass_on_the_miniature_s_weights(name: str) -> None:
    weights = Path(__file__).parents[4] / "resources" / "miniature" / "scorers" / name
    if not weights.exists():
        pytest.skip(f"no small weights of {name} are shipped")
    assert failures(Subject(name, load(name).PROTOCOLS[0], options={"weights": weights})) == []


def test_a_scorer_of_a_world_of_its_own_is_given_pictures_and_prompts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-scorer", "oracle"]) == 1
    assert "(other pictures and prompts: --images DIR, --prompt TEXT)" in capsys.readouterr().out
    for number, colour in enumerate(("red", "white", "blue")):
        Image.new("RGB", (32, 32), colour).save(tmp_path / f"{number}.png")
    prompt = "a small red circle on a white background"
    assert main(["check-scorer", "oracle", "--images", str(tmp_path), "--prompt", prompt]) == 0, capsys.readouterr()
    assert main(["check-scorer", "oracle", "--images", str(tmp_path / "no")]) == 1
    assert "No such file or directory; give a folder of pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (
            "return rated ** 2 if",
            "return rated[:-1] if len(rated) else rated\n        return rated if",
            "one number an image: scores of 6 images are float64 (5,), expected float64 (6,)",
        ),
        (
            "return rated ** 2 if",
            "return list(rated)\n        return rated if",
            "scores of 6 images are list, expected",
        ),
        (
            "return rated ** 2 if",
            "return rated.astype('float32')\n        return rated if",
            "are float32 (6,), expected",
        ),
        (
            "return rated ** 2 if",
            "return rated / rated.max()\n        return rated if",
            "pictures beside: a picture al",
        ),
        ("return rated ** 2 if", "return np.log(rated)\n        return rated if", "one number an image: the score of"),
        (
            "return rated ** 2 if",
            "return rated + np.random.rand()\n        return rated if",
            "the same again: the same",
        ),
        ("return rated ** 2 if", "return rated + np.arange(len(rated))\n        return rated if", "pictures beside: "),
        ("        check_lengths(len(images), len(prompts))\n", "", "an image without a prompt is scored; expected"),
        ("protocol=protocol, files", "protocol='x', files", "fingerprint: protocol = squared changes scores and not"),
        (
            "preprocessing=options",
            "preprocessing={}",
            "fingerprint: options = {'upside_down': True} changes scores and",
        ),
        ('dtype="float64"', "dtype=str(id(object()))+str(np.random.rand())", "fingerprint: the fingerprint "),
        ("images], dtype", "images.none], dtype", "AttributeError: 'list' object has no attribute 'none' ("),
        ("NEEDS_WEIGHTS = False\n", "", "error: scorer 'odd' of package their-odd, entry point plug_in_0_odd: module "),
        ('("plain", "squared")', '("plain")', "PROTOCOLS is 'plain', expected a tuple"),
        (
            "(*, protocol, options, **_)",
            "(protocol)",
            "create(protocol): got an unexpected keyword argument 'weights'; ",
        ),
        (
            "    return Odd(",
            "    return Even(",
            "error: scorer 'odd': create fails: NameError: name 'Even' is not defined (",
        ),
        (
            "import numpy as np",
            "import numpyy as np",
            "cannot be imported: ModuleNotFoundError: No module named 'numpyy'",
        ),
        (
            "np.array([",
            "np.array([[",
            "error: scorer 'odd' of package their-odd, entry point plug_in_0_odd: cannot be im",
        ),
    ],
)
def test_each_mistake_has_a_line_of_its_own(checked: Checked, old: str, new: str, line: str) -> None:
    status, lines = checked(old, new)
    assert status in (1, 2)
    assert any(line in found for found in lines), lines
    assert not any("Traceback" in found for found in lines)


def test_an_option_that_is_a_number_is_tried_with_another(
    plug_in: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    of_numbers = PLUG_IN.replace('{"upside_down": False}', '{"upside_down": 0}')
    plug_in("evals.scorers", "odd", of_numbers.replace("preprocessing=options", "preprocessing={}"))
    assert main(["check-scorer", "odd"]) == 1
    assert "fingerprint: options = {'upside_down': 1} changes scores and not the fingerprint" in capsys.readouterr().out
