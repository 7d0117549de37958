"""``sdpo audit``: from a job description to ``audit.parquet``, ``audit.json`` and ``audit.png``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.atomic import file_sha256, write_bytes, write_json
from artifacts.block import checked
from artifacts.contracts import write_table
from artifacts.errors import InputError
from artifacts.progress import progress
from artifacts.provenance import describe
from sdpo.audit.settings import AuditedModel, AuditSpec

if TYPE_CHECKING:
    import torch

    from sdpo.audit.measurement import Auditor
    from sdpo.objectives import Objective


def audit(spec: Mapping[str, Any]) -> None:
    """Audit the safeguard on a base and models trained from it; prints the figures.

    Args:
        spec: an :class:`~sdpo.audit.settings.AuditSpec`.

    Raises:
        InputError: a bad setting, an objective without a loser, or a damaged input file.
    """
    import pandas as pd
    import torch

    from sdpo import bases
    from sdpo.audit import figure, summary
    from sdpo.audit.measurement import Auditor
    from sdpo.pairs import cache

    started = time.time()
    job = checked(AuditSpec, spec, "sdpo audit")
    torch.set_num_threads(job.threads)
    objectives = guarded_objectives(job)
    pairs_path, out = Path(job.pairs), Path(job.out)
    base = bases.open_described(spec["base"], encoder_dtype=cache.settings_of(pairs_path).encoder_dtype)
    pairs = cache.load(pairs_path, job.settings.split, base=base)
    cache.check_fits(pairs_path, base)
    models = job.models or [AuditedModel(name=layout.base_model_name(job.base.name))]
    inputs = {
        **bases.digests(spec["base"]),
        str(pairs_path / "cache.json"): file_sha256(pairs_path / "cache.json"),
    }
    rows: list[dict[str, Any]] = []
    for model in models:
        denoiser = base.load_denoiser()
        if model.path is not None:
            inputs |= load_weights(denoiser, Path(model.path))
        auditor = Auditor(base, denoiser, base.load_denoiser(), pairs, objectives, job.settings, job.step)
        rows += _shown(auditor, model.name)
    frame = pd.DataFrame(rows)
    limits = [column for column in frame.columns if column.endswith("_limit")]
    frame[limits] = frame[limits].where(frame[limits].abs() != float("inf"))
    geometries, taken = summary.geometry(frame, job.settings.mu), summary.steps(frame)
    provenance = describe(stage="audit", spec=job.model_dump(), inputs=inputs, started=started, dtype="float64")
    write_table(out / "audit.parquet", frame, "audit")
    write_bytes(out / "audit.png", figure.draw(frame))
    write_json(out / "audit.json", {"geometry": geometries, "steps": taken, "provenance": provenance})
    print(f"{summary.page(geometries, taken)}\n\nRows, figures and picture: {out}/audit.parquet, .json, .png")


def guarded_objectives(job: AuditSpec) -> dict[float | None, Objective]:
    """The objective without safeguard, under ``None``, and with it for each μ.

    Raises:
        InputError: unknown objective, bad parameters, or an objective without a loser.
    """
    from sdpo import objectives

    asked = job.objective
    if not objectives.load(asked.name).HAS_LOSER:
        raise InputError(
            f"objective.name = '{asked.name}': has no loser to be safeguarded; name an objective that has one"
        )
    guards: dict[float | None, dict[str, Any] | None] = {
        None: None,
        **{mu: {**(asked.safeguard or {}), "mu": mu} for mu in job.settings.mu},
    }
    return {mu: objectives.create(asked.name, safeguard=guard, **asked.parameters) for mu, guard in guards.items()}


def load_weights(denoiser: torch.nn.Module, folder: Path) -> dict[str, str]:
    """Put the weights of a model's folder into a denoiser of its base.

    Returns:
        Digests of the files that were read, by path.

    Raises:
        InputError: there are no safetensors, or they are not those of this denoiser.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = sorted(folder.rglob("*.safetensors"))
    if not files:
        raise InputError(f"{folder}: no .safetensors below it; give the folder of a trained model")
    try:
        denoiser.load_state_dict({name: value for file in files for name, value in load_file(file).items()})
    except (RuntimeError, SafetensorError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder}: not the denoiser of a model of this base ({reason}); give its folder") from error
    return {str(file): file_sha256(file) for file in files}


def _shown(auditor: Auditor, model: str) -> list[dict[str, Any]]:
    """All rows of one model, with progress by batch."""
    rows: list[dict[str, Any]] = []
    with progress(total=auditor.settings.batches, label=f"audit {model}", unit="batch") as bar:
        for row in auditor.rows(model):
            bar.update(row["batch"] - bar.n)
            rows.append(row)
        bar.update(auditor.settings.batches - bar.n)
    return rows
