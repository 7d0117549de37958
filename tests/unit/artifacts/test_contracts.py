from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from artifacts.contracts import CONTRACTS, read_table, write_table
from artifacts.errors import InputError


def scores(**changed: Any) -> pd.DataFrame:
    columns = {
        "prompt_id": ["seen-00000", "seen-00001"],
        "score": [0.5, -1.0],
        "truncated": False,
        "image_sha256": "a",
        "fingerprint": "b",
        "protocol": "sdpo",
    }
    return pd.DataFrame({**columns, **changed})


@pytest.mark.parametrize("name", list(CONTRACTS))
def test_schema_of_a_row_is_valid_and_exact(name: str) -> None:
    import jsonschema

    schema = CONTRACTS[name].json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    samples = {"string": "x", "int64": 1, "float64": 0.5, "bool": True}
    row = {key: samples[column.type] for key, column in CONTRACTS[name].columns.items()}
    jsonschema.validate(row, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**row, "surplus": 1}, schema)
    for key, column in CONTRACTS[name].columns.items():
        without = {k: v for k, v in row.items() if k != key}
        if column.optional:
            jsonschema.validate(without, schema)
        else:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate(without, schema)
        if column.nullable:
            jsonschema.validate({**row, key: None}, schema)
        else:
            with pytest.raises(jsonschema.ValidationError):
                jsonschema.validate({**row, key: None}, schema)


def test_table_comes_back_in_the_contracts_order(tmp_path: Path) -> None:
    frame = scores()[["fingerprint", "protocol", "truncated", "score", "image_sha256", "prompt_id"]]
    write_table(tmp_path / "t.parquet", frame, "scores")
    read = read_table(tmp_path / "t.parquet", "scores")
    assert list(read.columns) == list(CONTRACTS["scores"].columns)
    assert read["score"].tolist() == [0.5, -1.0]


def test_equal_tables_are_equal_bytes(tmp_path: Path) -> None:
    write_table(tmp_path / "one.parquet", scores(), "scores")
    shuffled = scores()
    shuffled.index = pd.Index([7, 3])
    write_table(tmp_path / "two.parquet", shuffled, "scores")
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (scores().drop(columns="fingerprint"), "column 'fingerprint' of contract 'scores' is missing"),
        (scores(seed=3), "column 'seed' is not in contract 'scores'"),
        (scores(score=["high", "low"]), "does not fit contract 'scores'"),
        (scores(score=[0.5, None]), "column 'score' holds empty values"),
        (scores(score=[0.5, float("nan")]), "column 'score' holds empty values"),
        (scores(prompt_id=["a", None]), "column 'prompt_id' holds empty values"),
        (scores(prompt_id=[1, 2]), "does not fit contract 'scores'"),
    ],
)
def test_what_does_not_fit_is_not_written(frame: pd.DataFrame, message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    with pytest.raises(InputError) as caught:
        write_table(path, frame, "scores")
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_nulls_written_by_others_are_found_on_reading(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    frame = pd.DataFrame({"prompt_id": ["a", "b"], "file": ["0.png", "1.png"], "seed": [1, 2], "sha256": "x"})
    write_table(path, frame, "manifest")
    table = pq.read_table(path)
    pq.write_table(table.set_column(1, "file", pa.array(["0.png", None])), path)
    with pytest.raises(InputError) as caught:
        read_table(path, "manifest")
    assert str(caught.value).startswith(f"{path}: column 'file' holds empty values, which it must not; ")


def test_fraction_does_not_pass_for_an_integer(tmp_path: Path) -> None:
    frame = pd.DataFrame({"prompt_id": ["a"], "file": "f", "seed": [1.5], "sha256": "x"})
    with pytest.raises(InputError, match="does not fit contract 'manifest'"):
        write_table(tmp_path / "m.parquet", frame, "manifest")


def test_column_that_may_be_empty_comes_back_empty(tmp_path: Path) -> None:
    frame = pd.DataFrame({name: [1, 2] for name in CONTRACTS["training"].columns}).astype(float)
    frame["loser_drift"] = [None, 0.25]
    frame[["step", "peak_memory_bytes"]] = 1
    write_table(tmp_path / "t.parquet", frame, "training")
    read = read_table(tmp_path / "t.parquet", "training")
    assert read["loser_drift"].isna().tolist() == [True, False]
    assert read["step"].dtype == "int64"


def test_a_file_from_before_a_column_was_added_has_it_empty(tmp_path: Path) -> None:
    older = [name for name, column in CONTRACTS["training"].columns.items() if not column.optional]
    assert len(older) < len(CONTRACTS["training"].columns)
    frame = pd.DataFrame({name: [1, 2] for name in older})
    write_table(tmp_path / "new.parquet", frame, "training")
    pq.write_table(pq.read_table(tmp_path / "new.parquet").select(older), tmp_path / "old.parquet")
    for name in ("new", "old"):
        read = read_table(tmp_path / f"{name}.parquet", "training")
        assert list(read.columns) == list(CONTRACTS["training"].columns)
        assert read["pairs_noise_1"].isna().all() and read["safe_scale_noise_5"].isna().all()
        assert read["loss"].tolist() == [1.0, 2.0]


def test_missing_file_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"t.parquet: no such file; run snakemake"):
        read_table(tmp_path / "t.parquet", "scores")


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "latin"])
def test_damaged_file_is_named_with_the_remedy(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_table(path, scores(), "scores")
    content = path.read_bytes()
    # Text of another encoding, which Arrow gives out as it stands.
    latin = content.replace(b"seen-0", b"s\xe9en-0")
    assert latin != content
    wrong = {"truncated": content[:-20], "empty": b"", "text": b"prompt_id,score\n", "latin": latin}
    path.write_bytes(wrong[damage])
    with pytest.raises(InputError, match=r"t.parquet: not a readable Parquet file; delete the file and run snakemake"):
        read_table(path, "scores")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompt_id": ["a"]}, "column 'score' of contract 'scores' is missing"),
        ({**scores().to_dict("list"), "x": [1, 2]}, "column 'x' is not in contract 'scores'"),
        ({**scores().to_dict("list"), "score": [1, 2]}, "column 'score' is int64, expected double"),
    ],
)
def test_foreign_table_is_refused(columns: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(InputError) as caught:
        read_table(path, "scores")
    assert message in str(caught.value)
