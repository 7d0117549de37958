from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pipeline.reference import documents

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("path", documents())
def test_generated_files_are_up_to_date(path: str) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == documents()[path], "run `make generated`"


def test_no_schema_is_left_over() -> None:
    found = {path.relative_to(ROOT).as_posix() for path in (ROOT / "workflow/schemas").iterdir()}
    assert found == {path for path in documents() if path.startswith("workflow/schemas/")}


def test_config_schema_takes_a_config_and_refuses_its_mistakes(config: dict[str, Any]) -> None:
    schema = json.loads(documents()["workflow/schemas/config.schema.json"])
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(config, schema)
    for block, key, value in (("training", "steps", 0), ("generation", "guidance", 3), ("statistics", "confidence", 1)):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**config, block: {key: value}}, schema)


def test_reference_names_every_key_of_the_schema() -> None:
    schema = json.loads(documents()["workflow/schemas/config.schema.json"])
    reference = documents()["config/README.md"]
    keys = set(schema["properties"]) | {k for d in schema["$defs"].values() for k in d.get("properties", {})}
    assert len(keys) > 40
    assert {key for key in keys if f"| `{key}` |" not in reference} == set()
