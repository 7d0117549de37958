"""``evals doctor``: which weights are here, which are missing and how to get them; versions, device, disk.

Nothing is loaded and no network is touched: a folder counts as complete when the files that its scorer's loader needs
are there. Digests are compared with ``verify`` only, since that reads gigabytes.
"""

from __future__ import annotations

import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts.atomic import file_sha256
from artifacts.errors import InputError
from artifacts.file_names import user_path
from artifacts.hub import cached_folder, is_local
from artifacts.provenance import package_versions
from artifacts.yaml_files import read_mapping
from evals import scorers
from evals.generation.external_models import WEIGHT_SUFFIXES
from evals.published.fetch_prompts import CACHE, cached
from evals.published.fetched_weights import RECORD, read_record
from evals.published.prompts import PROMPTS
from evals.published.weights import NEEDED, WEIGHTS, PublishedFile
from evals.scoring.scorer_settings import scorer_blocks
from families.diffusers_folder import DENOISERS

PACKAGES = (
    "torch",
    "torchvision",
    "transformers",
    "open_clip_torch",
    "safetensors",
    "pillow",
    "numpy",
    "pyarrow",
    "image-reward",
    "hpsv2",
)


@dataclass(frozen=True)
class Finding:
    """One line of the answer; ``problem`` is empty if all is well."""

    what: str
    where: str
    problem: str = ""


def doctor(config: str | Path | None, weights_dir: str | Path, *, verify: bool = False) -> int:
    """Print the state of this machine; 1 if something that ``config`` needs is missing, 0 otherwise.

    Raises:
        InputError: the config cannot be read or names unknown scorers.
    """
    if config is not None:
        content = read_mapping(config)
        findings = [*_config_findings(content, config, verify)]
        print(f"Needed by {config}:")
    else:
        findings = [_folder_finding(name, Path(weights_dir) / name, verify) for name in WEIGHTS]
        print(f"Weights in {weights_dir}:")
    for finding in findings:
        print(f"  {'missing' if finding.problem else 'ok     '}  {finding.what}: {finding.where}")
        if finding.problem:
            print(f"           {finding.problem}")
    lacking = [finding.what for finding in findings if finding.problem]
    for name in (name for name in WEIGHTS if name in lacking):
        print(f"\nTo get {name}: evals weights fetch {name} --to {weights_dir}; or by hand:")
        for file in WEIGHTS[name]:
            print(f"  {_how(file)}")
    print("\nPackages: " + ", ".join(_versions()))
    print(f"Device:   {_device()}")
    print(f"Disk:     {_disk(Path(weights_dir))}")
    if config is not None and lacking:
        print(f"\n{len(lacking)} of {len(findings)} missing: {', '.join(lacking)}")
        return 1
    return 0


def _config_findings(config: Mapping[str, Any], source: str | Path, verify: bool) -> Iterator[Finding]:
    yield from _denoiser_findings(config)
    for name, block in scorer_blocks(config, source).items():
        module = scorers.load(name)
        weights = block.get("weights")
        if weights is None:
            problem = f"expected {getattr(module, 'WEIGHTS', 'a local folder')}" if module.NEEDS_WEIGHTS else ""
            yield Finding(name, "no weights named" if module.NEEDS_WEIGHTS else "needs no weights", problem)
        else:
            yield _folder_finding(name, user_path(weights), verify)
    sets = config.get("prompt_sets")
    for name, block in (sets if isinstance(sets, dict) else {}).items():
        if isinstance(block, dict):
            yield from _prompt_findings(f"prompt set {name}", block)


def _denoiser_findings(config: Mapping[str, Any]) -> Iterator[Finding]:
    """Bases with their autoencoders, and models from elsewhere."""
    for what, block in (("base", config.get("base")), *_listed(config, "other_bases", "base")):
        if not isinstance(block, dict):
            continue
        if isinstance(path := block.get("path"), str):
            yield _source_finding(what, path, [DENOISERS, ["vae"], ["text_encoder"]])
        if isinstance(path := block.get("vae"), str):
            yield _source_finding(f"{what}'s vae", path, [["."]])
    for what, block in _listed(config, "models", "model"):
        if isinstance(source := block.get("source"), str):
            file = block.get("file")
            own = [file] if isinstance(file, str) else DENOISERS
            yield _source_finding(what, source, [[*own, "."]])


def _listed(config: Mapping[str, Any], key: str, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    blocks = config.get(key)
    for block in blocks if isinstance(blocks, list) else []:
        if isinstance(block, dict):
            yield f"{kind} {block.get('name')}", block


def _source_finding(what: str, source: str, parts: Sequence[Sequence[str]]) -> Finding:
    """Whether a file, folder or hub id is here.

    Args:
        what: for whom.
        source: as the config names it.
        parts: files or folders with weights; a fetched hub id has one of each group.
    """
    if is_local(source):
        there = user_path(source).exists()
        return Finding(what, source, "" if there else "no such file or folder; correct the path")
    if "@" not in source:
        return Finding(what, source, f"no such folder, and as a hub id it has no revision; write {source}@<commit>")
    folder = cached_folder(source)
    if folder is not None and all(any(_has_weights(folder / part) for part in group) for group in parts):
        return Finding(what, f"{source} (in the hub's cache)")
    begun = "in part in" if folder is not None else "not in"
    return Finding(what, f"{source} ({begun} the hub's cache; fetched on first use)")


def _has_weights(path: Path) -> bool:
    return path.is_file() or any(file.suffix in WEIGHT_SUFFIXES for file in path.glob("*"))


def _prompt_findings(what: str, block: Mapping[str, Any]) -> Iterator[Finding]:
    options = block.get("options")
    options = options if isinstance(options, dict) else {}
    path, source = options.get("path"), block.get("source")
    if isinstance(path, str):
        yield Finding(what, path, "" if user_path(path).is_file() else "no such file; give the path of the prompts")
    elif isinstance(source, str) and source in PROMPTS:
        cache = str(options.get("cache", CACHE))
        for file in PROMPTS[source]:
            kept = cached(source, file, cache)
            fetch = f"not fetched yet; evals prompts fetch {source} --to {cache}"
            yield Finding(what, str(kept), "" if kept.is_file() else fetch)


def _folder_finding(name: str, path: Path, verify: bool) -> Finding:
    if not path.exists():
        return Finding(name, str(path), "no such file or folder")
    if path.is_file():
        return Finding(name, str(path))
    lacking = []
    for groups in NEEDED.get(name, ()):
        if not any(all(any(path.glob(file)) for file in group) for group in groups):
            lacking.append(" or ".join(" + ".join(group) for group in groups))
    if lacking:
        return Finding(name, str(path), f"incomplete: no {'; no '.join(lacking)}")
    if verify:
        if problem := _digest_problem(path):
            return Finding(name, str(path), problem)
        recorded = "digests as recorded" if read_record(path) else f"no {RECORD}, digests not known"
        return Finding(name, f"{path} ({recorded})")
    return Finding(name, str(path))


def _digest_problem(folder: Path) -> str:
    try:
        record = read_record(folder)
    except InputError as error:
        return str(error)
    for target, known in record.items():
        if (folder / target).is_file() and file_sha256(folder / target) != known.get("sha256"):
            return f"{target} has changed since it was fetched; delete it and fetch it again"
    return ""


def _how(file: PublishedFile) -> str:
    size = f"{file.bytes / 1e6:.1f} MB" if file.bytes is not None else "size not known"
    digest = (
        "sha256 not known" if file.needs_trust else f"sha256 {file.sha256}" if file.sha256 else "fixed by its commit"
    )
    return f"{file.url()} ({size}, {digest})"


def _versions() -> list[str]:
    found = package_versions(PACKAGES)
    return [f"python {platform.python_version()}", *(f"{name} {found.get(name, 'not installed')}" for name in PACKAGES)]


def _device() -> str:
    import torch

    if not torch.cuda.is_available():
        return f"cpu, {torch.get_num_threads()} threads; torch finds no GPU"
    found = []
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found.append(f"cuda:{index} {torch.cuda.get_device_name(index)}, {free / 1e9:.1f} of {total / 1e9:.1f} GB free")
    return "; ".join(found)


def _disk(folder: Path) -> str:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    needed = sum(file.bytes or 0 for files in WEIGHTS.values() for file in files)
    return (
        f"{shutil.disk_usage(existing).free / 1e9:.1f} GB free for {folder}; the published files take "
        f"{needed / 1e9:.1f} GB"
    )
