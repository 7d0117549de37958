"""What the shipped configs name on the hub is pinned by commit; exceptions are listed, with what is known of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CONFIGS = sorted(Path(__file__).parents[3].glob("config/*.yaml"))
HUB_ID = re.compile(r"([\w.-]+/[\w.-]+)@(\S+)")
# Of these only the beginning of the commit is known, and the hub's library wants all of it.
BRANCHES = {"AIDC-AI/Diffusion-SDPO": "9bdbf41", "jacklishufan/diffusion-kto": "745f04e"}


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from texts(inner)


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.name)
def test_every_hub_id_is_pinned_by_a_whole_commit(config: Path) -> None:
    found = [match.groups() for text in texts(yaml.safe_load(config.read_text())) if (match := HUB_ID.fullmatch(text))]
    for name, revision in found:
        if name in BRANCHES:
            assert revision == "main"
            assert BRANCHES[name] in config.read_text()
        else:
            assert re.fullmatch("[0-9a-f]{40}", revision), name
    assert found or config.name not in {"published.yaml", "paper-sd15.yaml", "paper-sdxl.yaml"}


def test_digests_of_published_models_are_of_one_file_each() -> None:
    models = yaml.safe_load(next(path for path in CONFIGS if path.name == "published.yaml").read_text())["models"]
    digests = [model["sha256"] for model in models if "sha256" in model]
    assert len(digests) == len(set(digests)) == 2
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
