"""Where the numbers come from: the provenance files of a benchmark, as the page shows them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.durations import duration
from artifacts.json_files import read_object
from artifacts.plugins import OWN

if TYPE_CHECKING:
    from evals.tables.comparison import ComparedModel, Comparison


@dataclass(frozen=True)
class Source:
    """One provenance file: who it is about, and its content as text."""

    name: str
    commit: str
    plug_ins: tuple[str, ...]
    config_sha256: str
    started: str
    wall_time: str
    hardware: str
    python: str
    packages: Mapping[str, str]


@dataclass(frozen=True)
class Scorer:
    """What the scores of one column were made by, as text; ``files`` maps a role to the beginning of its digest."""

    name: str
    protocol: str
    fingerprint: str
    settings: str
    files: Mapping[str, str]
    ran_on: str


@dataclass(frozen=True)
class Provenance:
    """All sources, and the distinct values of what should be one value; ``drawn_on`` are the devices of the images."""

    sources: tuple[Source, ...]
    scorers: tuple[Scorer, ...]
    commits: tuple[str, ...]
    plug_ins: tuple[str, ...]
    hardware: tuple[str, ...]
    drawn_on: tuple[str, ...]
    packages: tuple[tuple[str, str], ...]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a benchmark; errors as of :func:`artifacts.json_files.read_object`."""
    return read_object(path, missing="run snakemake to make it", damaged="delete it and run snakemake again")


def provenance_if_there(path: Path) -> dict[str, Any]:
    """The provenance of a model or of images; empty where its file is gone."""
    return read_json(path) if path.is_file() else {}


def provenance_file(comparison: Comparison, model: ComparedModel) -> Path:
    """What a model's numbers come from: its training, or its first images if it was not trained here."""
    if model.trained:
        return layout.model(comparison.root, model.name) / "provenance.json"
    return layout.images(comparison.root, model.name, comparison.prompt_sets[0]) / "provenance.json"


def read_provenance(comparison: Comparison, fingerprints: Mapping[str, Sequence[str]]) -> Provenance:
    """Provenance of every model (:func:`provenance_file`); nothing is known of one whose file is gone.

    Args:
        comparison: models and scorers.
        fingerprints: those of each scorer's scores.

    Raises:
        InputError: a file is no JSON object.
    """
    sources = tuple(
        _source(
            model.name if model.trained else f"{model.name}, images of {comparison.prompt_sets[0]}",
            provenance_if_there(provenance_file(comparison, model)),
        )
        for model in comparison.models
    )
    scorers = {name: _records(comparison, name, fingerprints[name]) for name in comparison.scorers}
    used = [_environment(record) for records in scorers.values() for record in records]
    used += [(source.python, source.packages) for source in sources]
    names = dict.fromkeys(name for _, found in used for name in found)
    packages = [("python", _distinct(python for python, _ in used))]
    packages += [(name, _distinct(found.get(name, "") for _, found in used)) for name in names]
    models, sets = [model.name for model in comparison.models], comparison.prompt_sets
    images = [layout.images(comparison.root, model, name) for model in models for name in sets]
    drawn = [provenance_if_there(folder / "provenance.json").get("device") for folder in images]
    return Provenance(
        sources,
        tuple(_scorer(name, comparison.scorers[name], records) for name, records in scorers.items()),
        _distinct(source.commit for source in sources),
        _distinct(
            [
                *(name for source in sources for name in source.plug_ins),
                *(name for records in scorers.values() for record in records for name in _plug_ins(record)),
            ]
        ),
        _distinct(source.hardware for source in sources),
        _distinct(str(device) for device in drawn if device),
        tuple((name, ", ".join(versions)) for name, versions in packages if versions),
    )


def _records(comparison: Comparison, scorer: str, fingerprints: Sequence[str]) -> list[dict[str, Any]]:
    """What was noted of the scorer that made the scores; one record for each environment that it ran in."""
    patterns = [layout.scorer_record(comparison.root, scorer, fingerprint, "*") for fingerprint in fingerprints]
    return [read_json(path) for pattern in patterns for path in sorted(pattern.parent.glob(pattern.name))]


def _scorer(name: str, protocol: str, records: Sequence[Mapping[str, Any]]) -> Scorer:
    hashed = dict(records[0].get("hashed") or {}) if records else {}
    files = {str(role): str(digest)[:12] for role, digest in dict(hashed.pop("files", None) or {}).items()}
    settings = {key: value for key, value in hashed.items() if key not in ("scorer", "protocol")}
    if "source" in settings:
        settings["source"] = str(settings["source"])[:12]
    return Scorer(
        name=name,
        protocol=protocol,
        fingerprint=str(records[0].get("fingerprint", ""))[:12] if records else "",
        settings=_listed(settings),
        files=files,
        ran_on="; ".join(
            _distinct(f"{record.get('device')}, {record.get('batch_size')} images a pass" for record in records)
        ),
    )


def _environment(content: Mapping[str, Any]) -> tuple[str, Mapping[str, str]]:
    packages = {str(k): str(v) for k, v in dict(content.get("packages") or {}).items()}
    return str(content.get("python") or ""), packages


def _source(name: str, content: Mapping[str, Any]) -> Source:
    seconds = content.get("wall_seconds")
    python, packages = _environment(content)
    device = content.get("device")
    return Source(
        name=name,
        commit=_commit(content),
        plug_ins=_plug_ins(content),
        config_sha256=str(content.get("config_sha256") or "")[:12],
        started=str(content.get("started") or ""),
        wall_time=duration(float(seconds)) if isinstance(seconds, int | float) else "",
        hardware=_listed(content.get("hardware")) + (f", on {device}" if device else ""),
        python=python,
        packages=packages,
    )


def _commit(content: Mapping[str, Any]) -> str:
    """A commit, and whether the code that ran is all in it."""
    commit = str(content.get("git_commit") or "unknown")[:12]
    if not content.get("git_dirty"):
        return commit
    others = _plug_ins(content) and not content.get("git_changes")
    return f"{commit} with plug-ins that are not in it" if others else f"{commit} with uncommitted changes"


def _plug_ins(content: Mapping[str, Any]) -> tuple[str, ...]:
    """Members of registries that other packages brought, with package, version and the beginning of their digest."""
    return tuple(
        f"{name} of {origin['package']} {origin['version']} ({str(origin['sha256'])[:12]})"
        for name, origin in dict(content.get("code") or {}).items()
        if origin["package"] != OWN
    )


def _listed(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_listed(item)}" for key, item in value.items() if item not in (None, ""))
    return "" if value is None else str(value)


def _distinct(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
