from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifacts.errors import InputError
from evals.networks.interface import RefusedImageError
from evals.scorers import Scorer, create

RATER = """
import json, sys
from PIL import Image

print(json.dumps({"scorer": "red", "version": "1", "weights_sha256": "none"}), flush=True)
waiting = []
for line in sys.stdin:
    if line.strip():
        waiting.append(json.loads(line))
        continue
    for asked in waiting:
        red = Image.open(asked["image"]).convert("RGB").getpixel((0, 0))[0]
        print(json.dumps({"score": red + len(asked["prompt"]) / 1000}))
    sys.stdout.flush()
    waiting = []
if sys.argv[1].endswith("ended"):
    open(sys.argv[1], "w").write("ended")
"""
ABOUT = 'print(\'{"scorer": "x", "version": "1", "weights_sha256": "0"}\', flush=True)\n'
READ = "import sys\nfor line in sys.stdin:\n    if line.strip():\n        "


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Scorer]:
    def make(code: str, *arguments: str, **options: str) -> Scorer:
        path = tmp_path / "rater.py"
        path.write_text(code)
        return create("command", protocol="program", options={"path": str(path), "arguments": [*arguments], **options})

    return make


def pictures(*levels: int) -> list[Image.Image]:
    return [Image.new("RGB", (5, 4), (level, 7, 9)) for level in levels]


def test_scores_are_the_programs_in_order(program: Callable[..., Scorer], tmp_path: Path) -> None:
    ended = tmp_path / "ended"
    scorer = program(RATER, str(ended))
    prompts = ["a", 'a rød cat\nwith "quotes"', ""]
    found = scorer.score(pictures(10, 200, 30), prompts)
    np.testing.assert_allclose(found, [10.001, 200 + len(prompts[1]) / 1000, 30.0])
    # The same process goes on; more than a pipe holds.
    long = "word " * 2000
    np.testing.assert_allclose(scorer.score(pictures(*range(40)), [long] * 40), np.arange(40) + len(long) / 1000)
    assert not ended.exists()
    del scorer
    gc.collect()
    assert ended.read_text() == "ended"


def test_whatever_shapes_the_scores_is_in_the_fingerprint(program: Callable[..., Scorer], tmp_path: Path) -> None:
    data = tmp_path / "weights.bin"
    data.write_text("one")
    first = program(RATER, str(data)).fingerprint
    assert program(RATER, str(data)).fingerprint == first
    others = [program(RATER + "# a comment", str(data)), program(RATER, str(data), "more")]
    others.append(program(RATER.replace('"version": "1"', '"version": "2"'), str(data)))
    data.write_text("two")
    others.append(program(RATER, str(data)))
    assert len({first, *(other.fingerprint for other in others)}) == 5


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import sys; sys.exit(3)", r"ended with status 3 before it said anything about itself"),
        ("print('loading')", r"its program writes 'loading', expected a JSON object about itself"),
        ("print('[1]')", r"its program writes '\[1\]', expected a JSON object"),
        ('print(\'{"scorer": "x"}\')', r"says .* of itself; expected text for version, weights_sha256"),
    ],
)
def test_what_a_program_says_first(program: Callable[..., Scorer], code: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        program(code)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("print('nan?', flush=True)", r"writes 'nan\?', expected a JSON object of image 1 of 2"),
        ("print('{\"score\": null}', flush=True)", r"answers \{\"score\": null\}; expected"),
        ("print('{\"score\": true}', flush=True)", r"answers \{\"score\": true\}; expected"),
        ("sys.exit(4)", r"ended with status 4 before it said anything of image 1 of 2"),
    ],
)
def test_answers_that_are_none(program: Callable[..., Scorer], answer: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        program(ABOUT + READ + answer).score(pictures(1, 2), ["a", "b"])


def test_an_image_that_the_program_refuses(program: Callable[..., Scorer]) -> None:
    code = ABOUT + READ + "print('{\"score\": 1}' if '00000' in line else '{\"error\": \"too small\"}', flush=True)"
    with pytest.raises(RefusedImageError, match="image 2 of those given: too small"):
        program(code).score(pictures(1, 2), ["a", "b"])


def test_no_program(tmp_path: Path, program: Callable[..., Scorer]) -> None:
    for path in ("", str(tmp_path)):
        with pytest.raises(InputError, match=r"options.path is .*, expected the file of a program"):
            create("command", protocol="program", options={"path": path})
    with pytest.raises(InputError, match=r"/nowhere/python cannot be started \(No such file"):
        program(RATER, python="/nowhere/python")


@pytest.mark.parametrize("extra", ["print('rated')", "print(json.dumps({'score': 0.5}))", "print()"])
def test_answers_that_nobody_asked_for_are_not_those_of_the_next_images(
    program: Callable[..., Scorer], extra: str
) -> None:
    code = RATER.replace("    sys.stdout.flush()\n", f"    {extra}\n    sys.stdout.flush()\n").replace(
        "sys.argv[1]", "''"
    )
    said = {"print()": "''", "print('rated')": "'rated'"}.get(extra, ".*score.*0.5.*")
    with pytest.raises(InputError, match=f"scorer 'command': its program writes {said} after all answers; expected"):
        program(code).score(pictures(10, 20), ["a", "b"])
