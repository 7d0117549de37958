"""Schemas of the Parquet files between stages, checked on every write and every read.

``workflow/schemas/*.schema.json`` is generated from :data:`CONTRACTS` (``sdpo-bench schemas``) and a
test fails when the two drift apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.atomic import replaced_file
from artifacts.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True)
class Column:
    """One column: its Arrow type (``string``, ``int64``, ``float64``, ``bool``) and its meaning.

    One that came later is ``optional``: files without it stay readable, and it is empty there. If it has a ``default``
    it has that there instead, and a file in which every row has it is written without the column.
    """

    type: str
    description: str
    nullable: bool = False
    optional: bool = False
    default: int | str | None = None


@dataclass(frozen=True)
class Contract:
    """A table's columns in order, and the command that writes it again."""

    title: str
    columns: dict[str, Column]
    remedy: str

    def arrow_schema(self) -> pa.Schema:
        """The Arrow schema; metadata is left out so that files compare by columns alone."""
        import pyarrow as pa

        types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
        return pa.schema([pa.field(n, types[c.type], nullable=c.nullable) for n, c in self.columns.items()])

    def json_schema(self) -> dict[str, Any]:
        """JSON schema of one row."""
        names = {"string": "string", "int64": "integer", "float64": "number", "bool": "boolean"}
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.title,
            "type": "object",
            "additionalProperties": False,
            "required": [n for n, c in self.columns.items() if not c.optional],
            "properties": {
                n: {
                    "type": [names[c.type], "null"] if c.nullable else names[c.type],
                    "description": c.description,
                }
                for n, c in self.columns.items()
            },
        }


NOISE_BUCKETS = 5
"""Equal parts of the range of a pair's share of noise, σ/(α + σ)."""
NOISE_MEANS = {
    "winner_drift": "mean of L_w - R_w",
    "loser_drift": "mean of L_l - R_l",
    "safe_scale": "mean of the safe scale λ",
}
"""What the training log has for each of them, beside the number of pairs."""


def noise_column(name: str, bucket: int) -> str:
    """Column of the training log with what ``name`` is in a bucket, from 0: ``winner_drift_noise_1`` is the first's."""
    return f"{name}_noise_{bucket + 1}"


def _noise_columns() -> dict[str, Column]:
    """Those of the training log: ends of a bucket are in the description of its number of pairs."""
    columns = {}
    for bucket in range(NOISE_BUCKETS):
        low, high = bucket / NOISE_BUCKETS, (bucket + 1) / NOISE_BUCKETS
        pairs = f"pairs of the step whose share of noise σ/(α + σ) is in [{low:g}, {high:g})"
        columns[noise_column("pairs", bucket)] = Column("int64", pairs, nullable=True, optional=True)
        for name, meaning in NOISE_MEANS.items():
            columns[noise_column(name, bucket)] = Column(
                "float64", f"{meaning} over those pairs", nullable=True, optional=True
            )
    return columns


_IMAGE = Column(
    "int64", "which of its prompt's images it is, from 0; no column: the only one", optional=True, default=0
)

CONTRACTS: dict[str, Contract] = {
    "prompts": Contract(
        "Prompts of one prompt set, in the set's order",
        {
            "prompt_id": Column("string", "stable identifier: set name, hyphen, five-digit index"),
            "prompt": Column("string", "the text given to the model"),
            "category": Column("string", "category within the set, empty if it has none"),
            "source": Column("string", "where the prompt comes from"),
            "item": Column(
                "string", "what the set's publisher calls the prompt; empty if nothing", optional=True, default=""
            ),
        },
        "delete the file and run snakemake again",
    ),
    "pairs_index": Contract(
        "Index of a pair cache: one row a pair",
        {
            "pair_id": Column("int64", "0, 1, 2, … in the order of the source"),
            "prompt": Column("string", "caption shown to the annotator"),
            "prompt_index": Column("int64", "number of the prompt in the cache; 0 is the empty one"),
            "split": Column("string", "train or heldout"),
            "label": Column("float64", "1: one image won; 0.5: tie, not trained on"),
            "winner_image": Column("int64", "number of the winner in the cache; -1 of a tie"),
            "loser_image": Column("int64", "number of the loser in the cache; -1 of a tie"),
        },
        "delete the pair cache's folder and run snakemake again",
    ),
    "manifest": Contract(
        "Images of one model on one prompt set: the first of every prompt, then the second of every prompt, …",
        {
            "prompt_id": Column("string", "as in the prompt set"),
            "image": _IMAGE,
            "file": Column("string", "file name beside the manifest"),
            "seed": Column("int64", "seed of the start noise"),
            "sha256": Column("string", "digest of the PNG file"),
        },
        "delete the image folder and run snakemake again",
    ),
    "scores": Contract(
        "Scores of one scorer for one model on one prompt set, in the order of the images' manifest",
        {
            "prompt_id": Column("string", "as in the prompt set"),
            "image": _IMAGE,
            "score": Column("float64", "raw scale of the scorer and protocol"),
            "truncated": Column("bool", "the prompt is longer than the scorer reads; it saw the beginning"),
            "image_sha256": Column("string", "digest of the image that was scored"),
            "fingerprint": Column("string", "digest of scorer, protocol, weights, preprocessing and dtype"),
            "protocol": Column("string", "how exactly the scorer was run"),
        },
        "delete the file and run snakemake again",
    ),
    "folder_scores": Contract(
        "Scores of a folder of images in long form: one row an image and scorer, in the order of the prompt file",
        {
            "file": Column("string", "image, relative to the folder, with / between parts"),
            "prompt": Column("string", "the text that the image was scored with"),
            "scorer": Column("string", "name of the scorer"),
            "protocol": Column("string", "how exactly the scorer was run"),
            "score": Column(
                "float64", "raw scale of the scorer and protocol; empty if the image is broken", nullable=True
            ),
            "truncated": Column("bool", "the prompt is longer than the scorer reads; it saw the beginning"),
            "image_sha256": Column("string", "digest of the image file; empty if it cannot be read", nullable=True),
            "fingerprint": Column("string", "digest of scorer, protocol, weights, preprocessing and dtype"),
            "problem": Column("string", "why the image has no score (--skip-broken); empty if it has", nullable=True),
            "lower_is_better": Column("bool", "low scores are good", nullable=True, optional=True),
            "judges": Column("bool", "the score says how good the image is", nullable=True, optional=True),
        },
        "run `evals score --images … --prompts … --out …` again",
    ),
    "training": Contract(
        "Training log of one model: one row a logged optimizer step",
        {
            "step": Column("int64", "optimizer steps done, from 1"),
            "loss": Column("float64", "value of the objective"),
            "winner_drift": Column("float64", "mean over the batch of L_w - R_w"),
            "loser_drift": Column("float64", "mean over the batch of L_l - R_l", nullable=True),
            "margin": Column("float64", "loser drift - winner drift", nullable=True),
            "implicit_accuracy": Column("float64", "share of pairs with a positive margin, ties half", nullable=True),
            "safe_scale_mean": Column("float64", "mean of the safe scale λ; 1 with the safeguard off", nullable=True),
            "safe_scale_min": Column("float64", "least λ of the batch", nullable=True),
            "residual_cosine": Column("float64", "cosine of winner and loser residuals", nullable=True),
            "grad_norm": Column("float64", "L2 norm of the gradient before clipping"),
            "learning_rate": Column("float64", "learning rate of this step"),
            "samples_per_second": Column("float64", "training pairs a second since the last row"),
            "peak_memory_bytes": Column("int64", "largest memory use so far: the process on CPU, the device else"),
            **_noise_columns(),
        },
        "delete the model's folder and run snakemake again",
    ),
    "drift": Contract(
        "Held-out drift of one model: same pairs, noise and timesteps for every model of a pair set",
        {
            "step": Column("int64", "optimizer steps done; 0 is the reference itself"),
            "winner_drift": Column("float64", "mean over held-out pairs of L_w - R_w"),
            "loser_drift": Column("float64", "mean over held-out pairs of L_l - R_l"),
            "margin": Column("float64", "loser drift - winner drift"),
            "implicit_accuracy": Column("float64", "share of held-out pairs with a positive margin, ties half"),
            "pairs": Column("int64", "held-out pairs used"),
        },
        "delete the model's folder and run snakemake again",
    ),
    "audit": Contract(
        "Audit of the safeguard: one row a model, micro-batch, origin of λ, slack, optimizer and learning rate",
        {
            "model": Column("string", "name of the model, <base>/base for the untrained base"),
            "batch": Column("int64", "micro-batch, from 0; the same pairs, noise and timesteps for every model"),
            "guard": Column(
                "string",
                "origin of λ: off (λ = 1), output (the safeguard), parameter (gradients by the parameters of both "
                "errors), objective (the same, of the objective's own parts)",
            ),
            "mu": Column("float64", "slack μ; empty with the safeguard off", nullable=True),
            "optimizer": Column("string", "sgd, adamw (fresh state) or adamw_warmed"),
            "learning_rate": Column("float64", "learning rate of the step"),
            "safe_scale": Column("float64", "λ of the step; its mean where it differs between pairs"),
            "output_cosine": Column("float64", "cosine of winner and loser residuals over the micro-batch"),
            "parameter_cosine": Column("float64", "cosine of the gradients of mean winner and mean loser error"),
            "output_limit": Column("float64", "largest λ by the residuals; empty: any λ", nullable=True),
            "parameter_limit": Column("float64", "largest λ by those gradients; empty: any λ", nullable=True),
            "objective_limit": Column("float64", "largest λ by the objective's parts; empty: any λ", nullable=True),
            "winner_error": Column("float64", "mean winner error before the step"),
            "loser_error": Column("float64", "mean loser error before the step"),
            "winner_gradient_norm": Column("float64", "L2 norm of the mean winner error's gradient"),
            "loser_gradient_norm": Column("float64", "L2 norm of the mean loser error's gradient"),
            "update_norm": Column("float64", "L2 norm of the change of the parameters"),
            "predicted_change": Column("float64", "winner error's change to first order: gradient times update"),
            "real_change": Column("float64", "winner error after the step minus before, same noise and timesteps"),
            "other_change": Column(
                "float64", "the same for the winners of the next micro-batch, which the step did not see"
            ),
        },
        "delete the file and run `snakemake audit` again",
    ),
}


def write_table(path: str | Path, frame: pd.DataFrame, contract: str) -> None:
    """Write ``frame`` as Parquet, atomically, with exactly the contract's columns and types.

    Raises:
        InputError: a column is missing or unknown, has the wrong type, or holds nulls it must not.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    expected = CONTRACTS[contract]
    _check_columns(str(path), list(frame.columns), contract)
    given = {name: column.default for name, column in expected.columns.items() if name not in frame}
    frame = frame.assign(**given)
    left_out = {n for n, c in expected.columns.items() if c.default is not None and (frame[n] == c.default).all()}
    columns = {name: column for name, column in expected.columns.items() if name not in left_out}
    for name, column in columns.items():
        if not column.nullable and frame[name].isna().any():
            raise InputError(f"{path}: column '{name}' holds empty values, which contract '{contract}' forbids")
    try:
        schema = replace(expected, columns=columns).arrow_schema()
        table = pa.Table.from_pandas(frame[list(columns)], schema, preserve_index=False)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise InputError(f"{path}: does not fit contract '{contract}': {error}") from error
    with replaced_file(path) as temporary:
        pq.write_table(table.replace_schema_metadata(None), temporary)


def read_table(path: str | Path, contract: str) -> pd.DataFrame:
    """Read a Parquet file and check it against its contract.

    Raises:
        InputError: the file is missing, is not Parquet, its columns or types are not the contract's, or a column holds
            nulls that it must not.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    expected = CONTRACTS[contract]
    try:
        table = pq.read_table(path)
        # Text that is not UTF-8 is else found by whoever asks for it.
        table.validate(full=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run snakemake to make it") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{path}: not a readable Parquet file; {expected.remedy}") from error
    _check_columns(str(path), table.column_names, contract)
    for field in expected.arrow_schema():
        if field.name not in table.column_names:
            values = [expected.columns[field.name].default] * len(table)
            table = table.append_column(field, pa.array(values, field.type))
    for field in expected.arrow_schema():
        if table.schema.field(field.name).type != field.type:
            raise InputError(
                f"{path}: column '{field.name}' is {table.schema.field(field.name).type}, expected {field.type}; "
                f"{expected.remedy}"
            )
    for name, column in expected.columns.items():
        if not column.nullable and table[name].null_count:
            raise InputError(f"{path}: column '{name}' holds empty values, which it must not; {expected.remedy}")
    frame: pd.DataFrame = table.select(list(expected.columns)).to_pandas()
    return frame


def _check_columns(path: str, found: list[str], contract: str) -> None:
    expected = CONTRACTS[contract]
    if missing := [name for name, c in expected.columns.items() if name not in found and not c.optional]:
        raise InputError(f"{path}: column '{missing[0]}' of contract '{contract}' is missing; {expected.remedy}")
    if unknown := [name for name in found if name not in expected.columns]:
        raise InputError(f"{path}: column '{unknown[0]}' is not in contract '{contract}'; {expected.remedy}")
