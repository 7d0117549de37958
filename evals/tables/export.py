"""A benchmark's mean scores in two formats of others.

- ``every_eval_ever``: one JSON file a variant, by its schema 0.3.0, in the folders of its datastore.
- ``hub``: one ``.eval_results/<benchmark>.yaml`` a variant, for the repository of its weights on the Hugging Face Hub.

Neither has a place for a paired difference, which is what says whether one variant is better: they have means alone.
"""

from __future__ import annotations

import json
import math
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import Any

import yaml

from artifacts.errors import InputError
from artifacts.plugins import nearest
from evals.generation.settings import with_effect
from evals.tables.comparison import Comparison
from evals.tables.rows import POOLED, ScoreRow
from evals.tables.table_notes import over

SCHEMA = "0.3.0"
"""Version of the schema of every_eval_ever that is written."""


def chosen(comparison: Comparison, variants: Sequence[str]) -> list[str]:
    """The variants that are asked for, or all.

    Raises:
        InputError: one is unknown.
    """
    for variant in variants:
        if variant not in comparison.variants:
            known = list(comparison.variants)
            raise InputError(f"--variant {variant}: expected one of {', '.join(known)}{nearest(variant, known)}")
    return list(variants) or list(comparison.variants)


def every_eval_ever(
    comparison: Comparison,
    scores: Sequence[ScoreRow],
    variants: Sequence[str],
    generation: Mapping[str, Any],
    trained: Mapping[str, Mapping[str, Any]],
    *,
    organisation: str,
    at: float,
) -> dict[str, str]:
    """Files by their path: ``data/<benchmark>/<organisation>/<variant>/<uuid>.json``.

    Args:
        comparison, scores, variants: of what.
        generation, trained: settings of images and trainings (:func:`evals.tables.made_with`).
        organisation: who ran the benchmark.
        at: when it is exported, seconds since the epoch.
    """
    files = {}
    for variant in variants:
        identity = f"{organisation}/{variant}"
        evaluation = f"{comparison.benchmark}/{identity}/{int(at)}"
        own = trained.get(variant, {})
        content = {
            "schema_version": SCHEMA,
            "evaluation_id": evaluation,
            "retrieved_timestamp": str(int(at)),
            "source_metadata": {
                "source_name": comparison.benchmark,
                "source_type": "evaluation_run",
                "source_organization_name": organisation,
                # Whoever trains a variant in a benchmark evaluates it there.
                "evaluator_relationship": "first_party" if variant in trained else "third_party",
            },
            "eval_library": {"name": "sdpo-bench", "version": version("sdpo-bench")},
            "model_info": {
                "name": variant,
                "id": identity,
                "additional_details": {
                    "deployment_type": "self_deployed",
                    "model_availability": "unknown",
                    "base": comparison.base_of(variant),
                    **_texts(own),
                },
            },
            "evaluation_results": [
                {
                    "evaluation_result_id": f"{row.prompt_set}/{row.scorer}",
                    "evaluation_name": f"{comparison.benchmark}/{row.prompt_set}/{row.scorer}",
                    "source_data": {"dataset_name": row.prompt_set, "source_type": "other"},
                    "metric_config": _metric(comparison, row),
                    "score_details": _score(comparison, row),
                    "generation_config": {"additional_details": _texts(_drawn(comparison, row.prompt_set, generation))},
                }
                for row in _rows(scores, variant)
            ],
        }
        file = uuid.uuid5(uuid.NAMESPACE_URL, evaluation)
        files[f"data/{comparison.benchmark}/{identity}/{file}.json"] = (
            json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        )
    return files


def hub(
    comparison: Comparison, scores: Sequence[ScoreRow], variants: Sequence[str], dataset: str, *, at: float
) -> dict[str, str]:
    """Files by their path: ``<variant>/.eval_results/<benchmark>.yaml``.

    Args:
        comparison, scores, variants: of what.
        dataset: the benchmark's data set on the hub, ``owner/name``; its tasks are ``<prompt set>_<scorer>``.
        at: when it is exported, seconds since the epoch.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    date = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    files = {}
    for variant in variants:
        entries = [
            EvalResultEntry(
                dataset_id=dataset,
                task_id=f"{row.prompt_set}_{row.scorer}",
                value=row.mean,
                date=date,
                notes=f"protocol {row.protocol}, n {row.n}, {_interval(comparison, row)}",
            )
            for row in _rows(scores, variant)
        ]
        text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=1000)
        files[f"{variant}/.eval_results/{comparison.benchmark}.yaml"] = text
    return files


def _rows(scores: Sequence[ScoreRow], variant: str) -> Iterator[ScoreRow]:
    return (row for row in scores if row.variant == variant and row.seed == POOLED)


def _metric(comparison: Comparison, row: ScoreRow) -> dict[str, Any]:
    return {
        "metric_id": f"sdpo-bench.{row.scorer}.{row.protocol}",
        "metric_name": f"{row.scorer} ({row.protocol})",
        "lower_is_better": row.scorer in comparison.lower_is_better,
        "score_type": "continuous",
        # Null is "not provided": not every scorer has bounds, and none says them.
        "min_score": None,
        "max_score": None,
        "additional_details": {"judges_quality": str(row.scorer in comparison.judges).lower()},
    }


def _score(comparison: Comparison, row: ScoreRow) -> dict[str, Any]:
    uncertainty: dict[str, Any] = {"num_samples": row.n}
    if math.isfinite(row.ci_low) and math.isfinite(row.ci_high):
        uncertainty["confidence_interval"] = {
            "lower": row.ci_low,
            "upper": row.ci_high,
            "confidence_level": comparison.statistics.confidence,
            "method": _method(comparison, row.variant),
        }
    details = {"seeds": str(len(comparison.of_variant(row.variant))), "prompts_cut": str(row.truncated)}
    return {"score": row.mean, "details": details, "uncertainty": uncertainty}


def _method(comparison: Comparison, variant: str) -> str:
    seeds = len(comparison.of_variant(variant))
    how = "variance components" if seeds > 1 else "Student's t"
    return f"{how}, {over(seeds)}"


def _interval(comparison: Comparison, row: ScoreRow) -> str:
    level, seeds = comparison.statistics.confidence, len(comparison.of_variant(row.variant))
    return f"{100 * level:g}% interval {row.ci_low:.6g} to {row.ci_high:.6g} {over(seeds)}"


def _drawn(comparison: Comparison, prompt_set: str, generation: Mapping[str, Any]) -> dict[str, Any]:
    own = comparison.apart.get(prompt_set)
    drawn = {**generation, **({} if own is None else own.generation.model_dump(exclude_none=True))}
    return with_effect(drawn, drawn.get("protocol"))


def _texts(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested settings as one level of texts, which is all that the schema takes."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= _texts(value, f"{prefix}{key}.")
        elif value is not None:
            found[f"{prefix}{key}"] = str(value)
    return found
