from __future__ import annotations

import pytest

from artifacts.errors import InputError
from evals.tables.paired import prompts_of
from worlds.toy_surface import prompts_clouds


def test_each_cloud_is_a_unit_of_chance() -> None:
    """Its prompt says nothing, but equal texts would count as one prompt, and no interval could be given."""
    prompts = prompts_clouds.read({})
    assert prompts_of([[prompt.text for prompt in prompts]]).units == len(prompts) == 1000
    with pytest.raises(InputError, match="unknown option 'seed'"):
        prompts_clouds.read({"seed": 1})
