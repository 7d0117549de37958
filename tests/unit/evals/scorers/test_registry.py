from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from artifacts.errors import InputError
from evals.scorers import REGISTRY, check_protocol, create, load, names

BUILT_IN = ["aesthetic", "clip", "hpsv2", "imagereward", "pickscore"]


def test_names_are_the_scorers_and_no_other_module() -> None:
    assert {*BUILT_IN, "hpsv21", "blank", "jpeg_size"} <= set(names())
    for name in names():  # a helper module would be refused
        assert load(name).PROTOCOLS


@pytest.mark.parametrize("name", BUILT_IN)
def test_interface_of_a_module(name: str) -> None:
    module = load(name)
    assert module.PROTOCOLS[0] == "sdpo"
    assert module.NEEDS_WEIGHTS is True
    assert isinstance(module.VERSION, int)


def test_listing_and_validating_imports_no_heavy_package() -> None:
    code = (
        "import sys, evals.scorers as s\n"
        f"for name in {BUILT_IN}: s.check_protocol(name, 'sdpo')\n"
        "print([m for m in ('torch', 'transformers', 'open_clip', 'numpy', 'PIL', 'pandas') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


@pytest.mark.slow
def test_loading_a_scorer_imports_no_diffusers(
    pickscore_folder: Path, open_clip_folder: Path, imagereward_folder: Path, aesthetic_folder: Path
) -> None:
    weights = {
        "pickscore": pickscore_folder,
        "hpsv2": open_clip_folder,
        "clip": open_clip_folder,
        "imagereward": imagereward_folder,
        "aesthetic": aesthetic_folder,
    }
    code = (
        "import sys; from evals.scorers import create\n"
        f"for name, path in { {k: str(v) for k, v in weights.items()} }.items(): create(name, weights=path)\n"
        "print([m for m in ('diffusers', 'datasets', 'ImageReward', 'hpsv2', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stderr


def test_unknown_scorer_names_the_nearest() -> None:
    with pytest.raises(InputError, match=r"unknown scorer 'hpsv3'.*did you mean 'hpsv2'"):
        create("hpsv3", weights="x")


def test_unknown_protocol_names_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"scorer 'clip': unknown protocol 'spdo'.*expected one of sdpo, author, package; .*'sdpo'"
    ):
        check_protocol("clip", "spdo")


def test_other_arguments_are_checked_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"unknown dtype 'float31'.*did you mean 'float32'"):
        create("clip", weights=tmp_path, dtype="float31")
    with pytest.raises(InputError, match="batch_size is 0"):
        create("clip", weights=tmp_path, batch_size=0)
    with pytest.raises(InputError, match=r"no weights given: expected a folder with open_clip_config\.json"):
        create("clip")


@pytest.mark.parametrize("name", BUILT_IN)
def test_missing_weights_say_what_was_expected(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"scorer '{name}': weights '.*nowhere' do not exist here: expected .*folder"):
        create(name, weights=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty.* finds no "):
        create(name, weights=tmp_path / "empty")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", BUILT_IN)
def test_half_precision_is_close(
    name: str,
    dtype: str,
    request: pytest.FixtureRequest,
    awkward_images: list[Image.Image],
    prompts: list[str],
) -> None:
    folder = "open_clip_folder" if name in ("clip", "hpsv2") else f"{name}_folder"
    weights = request.getfixturevalue(folder)
    full, half = create(name, weights=weights), create(name, weights=weights, dtype=dtype)
    exact, rounded = full.score(awkward_images, prompts), half.score(awkward_images, prompts)
    assert 0 < np.abs(rounded - exact).max() < 0.1 * exact.std() + 0.01 * np.abs(exact).max()
    assert half.fingerprint != full.fingerprint


def test_unusable_device(aesthetic_folder: Path) -> None:
    with pytest.raises(InputError, match="device 'gpu0' cannot be used here"):
        create("aesthetic", weights=aesthetic_folder, device="gpu0")


def test_weights_may_lie_below_the_users_home(pickscore_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(pickscore_folder.parent))
    assert (
        create("pickscore", weights="~/pickscore").fingerprint
        == create("pickscore", weights=pickscore_folder).fingerprint
    )
    with pytest.raises(InputError, match=rf"weights '{pickscore_folder.parent}/other' do not exist here"):
        create("pickscore", weights="~/other")


OWN = """
from types import SimpleNamespace
from evals.networks.interface import fingerprint
PROTOCOLS, NEEDS_WEIGHTS, VERSION = ("sdpo",), False, 1
def create(*, protocol, **_):
    made = fingerprint(scorer="copied", version=1, protocol=protocol, files={}, preprocessing={}, dtype="float64")
    return SimpleNamespace(fingerprint=made)
"""


def test_a_fingerprint_is_that_of_the_scorer_s_own_name(plug_in: Callable[..., str]) -> None:
    """Copied to another name, two scorers would share a cache's scores, and neither's code would be in them."""
    plug_in("evals.scorers", "copied", OWN)
    source = create("copied").fingerprint.hashed["source"]  # type: ignore[attr-defined]
    assert source == REGISTRY.source("copied") is not None
    plug_in("evals.scorers", "copy", OWN)
    with pytest.raises(InputError, match="scorer 'copy': its fingerprint is that of scorer 'copied'; expected"):
        create("copy")
    plug_in("evals.scorers", "by_hand", OWN.replace("fingerprint=made", "fingerprint='v1'"))
    with pytest.raises(InputError, match="scorer 'by_hand': its fingerprint is 'v1'; expected what"):
        create("by_hand")
    plug_in("evals.scorers", "nothing", OWN.replace("return", "made ="))
    with pytest.raises(InputError, match="scorer 'nothing': its fingerprint is None; expected what"):
        create("nothing")


@pytest.mark.parametrize("name", ["hpsv2", "hpsv21"])
def test_two_versions_of_one_network_have_fingerprints_of_their_own(name: str, open_clip_folder: Path) -> None:
    scorer = create(name, protocol="author", weights=open_clip_folder)
    assert scorer.fingerprint.hashed["scorer"] == name  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("LOWER_IS_BETTER = 'no'", "LOWER_IS_BETTER is 'no', expected a bool"),
        ("LOWER_IS_BETER = True", "defines LOWER_IS_BETER; did you mean LOWER_IS_BETTER"),
        ("JUDGE = False", "defines JUDGE; did you mean JUDGES"),
        ("DEFAULTS = ['size']", r"DEFAULTS is \['size'\], expected a dict"),
        ("def unjudgeable(): return []", r"unjudgeable\(\): .*; it is called as unjudgeable\(prompts\)"),
        ("PROTOCOLS = ()", r"PROTOCOLS is \(\), expected one name or more"),
    ],
)
def test_what_a_module_may_say_of_itself_is_held_to_its_type_and_spelling(
    plug_in: Callable[..., str], more: str, message: str
) -> None:
    """Or a scorer would be read the wrong way round."""
    plug_in("evals.scorers", "own", f"{OWN}\n{more}\nCOUNT, SIZE_OF_WEIGHTS = 3, 7\n")
    with pytest.raises(InputError, match=f"scorer 'own'.*{message}"):
        load("own")
