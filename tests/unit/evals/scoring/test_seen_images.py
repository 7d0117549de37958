"""What is shared between scorers, and that nothing larger than needed is kept of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from artifacts.errors import InputError
from evals.images.matching import PromptedImage
from evals.networks.interface import ImageScorer
from evals.networks.preprocessing import Preprocessing
from evals.scorers import create
from evals.scoring.items import score_items
from evals.scoring.seen_images import SeenBatch, look


class Whole:
    """A scorer that asks for the image itself."""

    fingerprint = "whole"

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        return np.array([image.width for image in images], dtype=np.float64)


def test_scorers_without_a_model_keep_a_number_and_no_image() -> None:
    image = Image.new("RGB", (60, 40))
    seen = look(image, {"blank": create("blank"), "jpeg_size": create("jpeg_size")})
    assert seen.image is None
    assert seen.scores == {"blank": 1.0, "jpeg_size": create("jpeg_size").score([image], ["a"])[0]}
    assert look(image, {"whole": Whole()}).image is image


def test_pixels_are_normalised_once_for_all_that_see_the_same(
    open_clip_folder: Path, pickscore_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three scorers of one fit and one of another: two normalisations, and each scorer's own scores."""
    scorers = {
        "clip": create("clip", weights=open_clip_folder),
        "hpsv2": create("hpsv2", weights=open_clip_folder),
        "pickscore": create("pickscore", weights=pickscore_folder),
        "other fit": create("hpsv2", weights=open_clip_folder, protocol="package"),
    }
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 30, 3), dtype=np.uint8)
    images, prompts = [Image.fromarray(pixels) for pixels in noise], ["a red cat", "", "two"]
    alone = {name: scorer.score(images, prompts) for name, scorer in scorers.items()}
    sizes = []
    original = Preprocessing.normalise

    def counted(self: Preprocessing, pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        return original(self, pixels)

    monkeypatch.setattr(Preprocessing, "normalise", counted)
    batch = SeenBatch([look(image, scorers) for image in images])
    for name, scorer in scorers.items():
        np.testing.assert_array_equal(batch.score(name, scorer, dict(enumerate(prompts))), alone[name])
    assert sizes == [3, 3]
    # Other images of the batch are other pixels.
    part = batch.score("clip", scorers["clip"], {2: "two", 0: "a red cat"})
    np.testing.assert_allclose(part, alone["clip"][[2, 0]], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([0.5], "gave list for 1 images; expected one number each"),
        (None, "gave NoneType for 1 images"),
        (np.array(["0.5"]), r"gave an array of <U3 and shape \(1,\) for 1 images"),
        (np.array([0.5 + 1j]), r"gave an array of complex128 and shape \(1,\)"),
        (np.array([True]), r"gave an array of bool and shape \(1,\)"),
        (np.array([[0.5]]), r"gave an array of float64 and shape \(1, 1\)"),
    ],
)
def test_what_is_not_one_number_an_image_is_refused(
    given: object, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Whole, "score", lambda self, images, prompts: given)
    batch = SeenBatch([look(Image.new("RGB", (4, 4)), {"own": Whole()})])
    with pytest.raises(InputError, match=f"scorer 'own': {message}"):
        batch.score("own", Whole(), {0: "a"})


OWN = """
from evals.networks.interface import ImageScorer, fingerprint
PROTOCOLS, NEEDS_WEIGHTS, VERSION = ("sdpo",), False, 1
class Whole:
    fingerprint = fingerprint(scorer="own", version=1, protocol="", files={}, preprocessing={}, dtype="")
    def score(self, images, prompts): return int("no")
def create(**_): return ImageScorer(Whole.fingerprint, lambda image: int("no")) if RATE else Whole()
"""


@pytest.mark.parametrize(("rate", "line"), [(False, 6), (True, 7)])
def test_where_the_code_of_a_scorer_fails_is_said(
    rate: bool, line: int, plug_in: Callable[..., str], tmp_path: Path
) -> None:
    """A fault of the scorer, whatever it raises, does not make an image a broken one."""
    plug_in("evals.scorers", "own", OWN.replace("RATE", str(rate)))
    scorer = create("own")
    assert isinstance(scorer, ImageScorer) == rate
    Image.new("RGB", (4, 4)).save(tmp_path / "0.png")
    items = [PromptedImage("0.png", "a", "0.png")]
    with pytest.raises(InputError, match=rf"^scorer 'own': score fails: ValueError: .*_own\.py, line {line}\)"):
        score_items({"own": scorer}, tmp_path, items, skip_broken=True)
