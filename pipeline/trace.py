"""``sdpo-bench trace``: the files behind a table, back to pairs and base, and whether they are what they were."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts import layout
from artifacts.atomic import file_sha256
from artifacts.contents import Contents
from artifacts.errors import InputError
from artifacts.job_manifest import missing_from
from artifacts.json_files import read_object
from artifacts.markdown import plain_table
from artifacts.plugins import nearest
from sdpo.pairs.cache.reading import content_sha256

if TYPE_CHECKING:
    from evals.tables.comparison import ComparedModel, Comparison

_GONE = {"missing": "run snakemake again", "damaged": "delete it and run snakemake again"}
SHORT = 12
"""Digits of a digest that are shown."""


@dataclass(frozen=True)
class Link:
    """A file of the chain.

    Attributes:
        stage: that made it.
        path: the file.
        sha256: what it holds now.
        job: name of the job that made it, empty if no manifest lists the file.
        provenance: what its maker noted: commit, machine, time; empty if nothing.
        inputs: what it was made of, with digests.
        faults: what is not as it was.
    """

    stage: str
    path: Path
    sha256: str
    job: str
    provenance: Mapping[str, Any]
    inputs: Mapping[str, str]
    faults: Sequence[str] = ()

    @property
    def commit(self) -> str:
        """Commit of the code, with a mark if not all of it was in the commit."""
        commit = self.provenance.get("git_commit")
        return "–" if commit is None else commit[:SHORT] + ("+" if self.provenance.get("git_dirty") else "")

    @property
    def machine(self) -> str:
        """Host, its cores, and the device."""
        hardware = self.provenance.get("hardware", {})
        cores = f"{hardware['cores']} cores" if "cores" in hardware else ""
        return ", ".join(x for x in (hardware.get("host"), cores, self.provenance.get("device")) if x) or "–"


def trace(
    table: Path, *, model: str | None = None, prompt_set: str | None = None, scorer: str | None = None
) -> tuple[str, bool]:
    """The chain of files behind a table, as text.

    Args:
        table: below ``results/<benchmark>/``, seen from where snakemake was started.
        model, prompt_set, scorer: only what lies behind these cells; with any of them each file is shown.

    Returns:
        the text, and whether every file is what it was.

    Raises:
        InputError: no such table, or nothing of that name in it; a file that should say where it comes from is gone.
    """
    from evals.tables import made_with
    from evals.tables.write import scores_sha256

    root = next((folder for folder in table.parents if (folder / "tables" / "comparison.json").is_file()), None)
    if root is None or not table.is_file():
        raise InputError(f"{table}: not a file below results/<benchmark>/ with tables; run it where snakemake was run")
    made = made_with(root)
    comparison = made.comparison
    chosen = [_chosen("model", model, [found.name for found in comparison.models])]
    chosen += [_chosen("prompt set", prompt_set, comparison.prompt_sets)]
    chosen += [_chosen("scorer", scorer, list(comparison.scorers))]
    contents = Contents(root / "jobs" / "digests.json")
    links = list(_Chain(root, comparison, contents).links(*chosen))
    sha256 = file_sha256(table)
    head = f"{table}\nsha256 {sha256}, made by `evals compare`, from"
    now = scores_sha256(comparison, contents.file)
    faults = [] if made.scores == now else [f"{table}: made from other scores than are there"]
    noted = made.tables.get(table.name) if table.parent.name == "tables" else None
    if noted not in (None, sha256):
        faults.append(f"{table}: changed since it was made")
    faults += list(dict.fromkeys(fault for link in links for fault in link.faults))
    shown = _summary(links) if (model, prompt_set, scorer) == (None, None, None) else _in_full(links)
    end = "\n".join(faults) or "Every file is what its job has written, and was made from the files above."
    if noted is None:
        end += f"\nNo digest of {table} itself was noted, so a change to it would not be seen."
    return f"{head}\n\n{shown}\n\n{end}", not faults


def _chosen(kind: str, name: str | None, known: Sequence[str]) -> list[str]:
    if name is None:
        return list(known)
    if name not in known:
        raise InputError(f"unknown {kind} '{name}': expected one of {', '.join(known)}{nearest(name, list(known))}")
    return [name]


class _Chain:
    """What the files of a benchmark say of one another."""

    def __init__(self, root: Path, comparison: Comparison, contents: Contents) -> None:
        self.root, self.comparison, self._contents = root, comparison, contents
        self.models: dict[str, ComparedModel] = {model.name: model for model in comparison.models}
        self._jobs: dict[str, Path] = {}
        for manifest in sorted((root / "jobs").glob("*/**/*.json")):
            written = read_object(manifest, **_GONE)
            self._jobs |= dict.fromkeys([*written["files"], *written["folders"]], manifest)

    def links(self, models: Sequence[str], sets: Sequence[str], scorers: Sequence[str]) -> Iterator[Link]:
        """Scores, then the images that were scored, then models, then pairs."""
        cells = [(model, name) for model in models for name in sets]
        for model, name in cells:
            yield from (self._scores(x, model, name) for x in scorers if name in self.comparison.sets_of(x))
        for model, name in cells:
            yield self._images(model, name)
        trained = [name for name in models if self.models[name].seed is not None]
        yield from map(self._model, trained)
        used = dict.fromkeys((self.models[name].pairs, self.models[name].base) for name in trained)
        yield from (self._pairs(dataset, base) for dataset, base in used if dataset is not None)

    def _scores(self, scorer: str, model: str, name: str) -> Link:
        path = layout.scores(self.root, scorer, model, name)
        rated = _columns(path, "image_sha256", "fingerprint")
        drawn = _columns(layout.images(self.root, model, name) / "manifest.parquet", "sha256")
        faults = [] if rated["image_sha256"] == drawn["sha256"] else [f"{path}: of other images than are there"]
        fingerprint = rated["fingerprint"][0]
        record = next(path.parents[len(Path(model).parts)].glob(f"{fingerprint[:16]}-*.json"), None)
        noted = {} if record is None else read_object(record, **_GONE)
        return self._link("score", path, noted, {f"{scorer}, fingerprint": fingerprint}, faults)

    def _images(self, model: str, name: str) -> Link:
        folder = layout.images(self.root, model, name)
        noted = read_object(folder / "provenance.json", **_GONE)
        faults = []
        if self.models[model].seed is not None:
            outputs = read_object(layout.model(self.root, model) / "provenance.json", **_GONE).get("outputs", {})
            made = {Path(file).name: sha256 for file, sha256 in outputs.items()}
            faults = [
                f"{folder}: drawn with another {file} than {layout.model(self.root, model)} has"
                for file, sha256 in noted["inputs"].items()
                if (now := made.get(file)) is not None and now != sha256
            ]
        return self._link("generate", folder / "manifest.parquet", noted, noted["inputs"], faults)

    def _model(self, model: str) -> Link:
        folder = layout.model(self.root, model)
        noted = read_object(folder / "provenance.json", **_GONE)
        faults = [
            f"{folder}: trained on another {path} than is there"
            for path, sha256 in noted["inputs"].items()
            if (Path(path) / "cache.json").is_file() and content_sha256(Path(path)) != sha256
        ]
        return self._link("train", folder / "provenance.json", noted, noted["inputs"], faults)

    def _pairs(self, dataset: str, base: str) -> Link:
        path = layout.pairs(self.root, dataset, base) / "cache.json"
        noted = read_object(path, **_GONE)["provenance"]
        return self._link("pairs", path, noted, noted["inputs"], [])

    def _link(
        self, stage: str, path: Path, noted: Mapping[str, Any], inputs: Mapping[str, str], faults: Sequence[str]
    ) -> Link:
        # Images are listed by their folder.
        manifest = self._jobs.get(path.as_posix()) or self._jobs.get(path.parent.as_posix())
        job = ""
        if manifest is not None:
            stage, *parts = manifest.relative_to(self.root / "jobs").with_suffix("").parts
            job = "/".join(parts)
            faults = [*faults, *missing_from(manifest, self._contents)]
        return Link(stage, path, self._contents.file(path), job, noted, inputs, faults)


def _columns(path: Path, *names: str) -> dict[str, list[Any]]:
    from pyarrow import ArrowException, parquet

    try:
        found: dict[str, list[Any]] = parquet.read_table(path, columns=list(names)).to_pydict()
    except (OSError, ArrowException) as error:
        raise InputError(f"{path}: missing or damaged; run snakemake again") from error
    return found


def _summary(links: Sequence[Link]) -> str:
    """One line a stage."""
    rows = [["stage", "files", "commit (+: and other code)", "machine", "made from", "to"]]
    for stage in dict.fromkeys(link.stage for link in links):
        of = [link for link in links if link.stage == stage]
        times = sorted(link.provenance["started"] for link in of if "started" in link.provenance) or ["–"]
        commits, machines = (dict.fromkeys(values) for values in ([x.commit for x in of], [x.machine for x in of]))
        rows.append([stage, str(len(of)), ", ".join(commits), "; ".join(machines), times[0], times[-1]])
    return plain_table(rows, "lrllll")


def _in_full(links: Sequence[Link]) -> str:
    """Each file with its digest, what it was made of, and the job that made it."""
    blocks = []
    for link in links:
        noted = link.provenance
        when = f"{noted['started']}, {noted['wall_seconds']:.0f} s, " if "started" in noted else ""
        lines = [f"{link.stage}  {link.path}", f"  sha256 {link.sha256}"]
        lines += [f"  of {name} {digest}" for name, digest in link.inputs.items()]
        lines.append(f"  {when}commit {link.commit}, {link.machine}")
        if link.job:
            lines.append(f"  sdpo-bench spec CONFIG --stage {link.stage} --job {json.dumps(link.job)} --commands")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
