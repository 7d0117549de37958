from __future__ import annotations

import contextlib
import copy
import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import yaml

from artifacts.layout import MODEL_FILES, PAIR_FILES
from pipeline.files import PUBLISHED_FILES, TABLE_FILES
from sdpo.bases import WEIGHTS

Once = Callable[[str, Callable[[Path], None]], Path]
HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def run_snakemake(
    folder: Path, arguments: Sequence[str], environment: Mapping[str, str] = os.environ
) -> tuple[bool, str]:
    """Run Snakemake in this process, since importing it takes longer than a small workflow: has it failed, its output.

    What jobs print themselves is not in it.
    """
    import snakemake.cli

    printed = io.StringIO()
    with (
        patch.dict(os.environ, dict(environment), clear=True),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        pytest.raises(SystemExit) as ended,
    ):
        snakemake.cli.main(list(arguments))
    # As Python itself does it: a text is printed, and is a failure.
    code = ended.value.code
    return bool(code), printed.getvalue() + (code if isinstance(code, str) else "")


class Workflow:
    """A folder in which the project's workflow runs with commands that only write their files."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        self.folder, self.config = folder, config
        commands = folder / "bin"
        commands.mkdir()
        for name in ("sdpo", "evals"):
            stub = commands / name
            stub.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "{HERE / "stub_command.py"}" "$@"\n')
            stub.chmod(stub.stat().st_mode | stat.S_IXUSR)
        for path in ("base", "pickscore"):
            (folder / "resources/miniature" / path).mkdir(parents=True)
            (folder / "resources/miniature" / path / "provenance.json").write_text("{}")

    def copied(self, folder: Path) -> Workflow:
        """The same benchmark with all its results, in another folder."""
        shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns("locks", "log"), dirs_exist_ok=True)
        copy_ = copy.copy(self)
        copy_.folder, copy_.config = folder, copy.deepcopy(self.config)
        return copy_

    def write_config(self) -> Path:
        path = self.folder / "bench.yaml"
        path.write_text(yaml.safe_dump(self.config, sort_keys=False))
        return path

    def arguments(self, *more: str) -> list[str]:
        """Arguments of Snakemake."""
        config = str(self.write_config())
        folders = ("--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder))
        return [*folders, "--configfile", config, "--cores", "2", *more]

    @property
    def environment(self) -> dict[str, str]:
        # The interpreter's own folder is in PATH, behind the stubs, so that the workflow does not put it in front.
        paths = [str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]
        figures = ("grid", "drift", "noise", "differences", "ranks")
        report = [
            "report/index.html",
            "report/degenerate.csv",
            "report/browser/index.html",
            *(f"figures/{name}.png" for name in figures),
        ]
        names = {
            "pairs": PAIR_FILES,
            "train": (*MODEL_FILES, WEIGHTS),
            "generate": ("00000.png", "manifest.parquet"),
            "compare": (*TABLE_FILES, *PUBLISHED_FILES),
            "report": report,
        }
        return {**os.environ, "PATH": os.pathsep.join(paths), "STUB_FILES": json.dumps(names)}

    def run(self, *arguments: str, fails: bool = False) -> str:
        """Run to the end, well or not; what it printed."""
        failed, text = run_snakemake(self.folder, self.arguments(*arguments), self.environment)
        assert failed == fails, text
        return text

    def planned(self, *arguments: str) -> dict[str, int]:
        """Jobs by rule that a dry run announces."""
        return job_counts(self.run("--dry-run", *arguments))

    def executed(self) -> Sequence[str]:
        """Commands run since the last call, as stage and variant or models."""
        log = self.folder / "commands"
        lines = sorted(log.read_text().splitlines()) if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture(scope="session")
def planned_jobs() -> Callable[[Path, Path], tuple[dict[str, int], str]]:
    """Jobs by rule that a dry run of a config announces in a folder, and all that it prints."""

    def run(config: Path, folder: Path) -> tuple[dict[str, int], str]:
        arguments = ("--dry-run", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder))
        failed, text = run_snakemake(folder, (*arguments, "--configfile", str(config)))
        assert not failed, text
        return job_counts(text), text

    return run


@pytest.fixture
def workflow(tmp_path: Path) -> Workflow:
    return _workflow(tmp_path)


@pytest.fixture(scope="session")
def finished_workflow(tmp_path_factory: pytest.TempPathFactory) -> Workflow:
    """The workflow of stubs after a run; shared, so work on a copy of it."""
    workflow = _workflow(tmp_path_factory.mktemp("stubs"))
    for name in ("resources/released/unet", "resources/fetched"):
        (workflow.folder / name).mkdir(parents=True)
    for name, text in {
        "resources/miniature/base/unet/diffusion_pytorch_model.safetensors": "weights",
        "resources/miniature/pickscore/model.safetensors": "weights",
        "resources/released/unet/diffusion_pytorch_model.safetensors": "weights",
        "prompts.txt": "a cat",
        "published.csv": "figures",
    }.items():
        (workflow.folder / name).parent.mkdir(exist_ok=True)
        (workflow.folder / name).write_text(text)
    workflow.config["prompt_sets"]["own"] = {"source": "text_file", "options": {"path": "prompts.txt"}}
    workflow.config["models"] = [
        {"name": "released", "source": "./resources/released", "objective": "dpo {beta}"},
    ]
    workflow.config["published"] = {"file": "published.csv"}
    workflow.config["execution"]["prompt_sets_per_job"] = 1
    workflow.run()
    workflow.executed()
    return workflow


def _workflow(folder: Path) -> Workflow:
    variant = {"objective": "dmpo", "parameters": {"beta": 2000}, "pairs": "renders"}
    return Workflow(
        folder,
        {
            "benchmark": "tiny",
            "base": {"name": "miniature", "family": "miniature", "path": "resources/miniature/base"},
            "pairs": {"renders": {"source": "miniature_renders"}, "unused": {"source": "miniature_samples"}},
            "variants": [{"name": "dmpo", **variant}, {"name": "dmpo+sdpo", **variant, "safeguard": {"mu": 0.9}}],
            "seeds": [0, 1],
            "prompt_sets": {"seen": {"source": "miniature_seen"}, "held-out": {"source": "miniature_heldout"}},
            "scorers": {"oracle": {}, "pickscore": {"weights": "resources/miniature/pickscore"}},
            "execution": {"seeds_per_job": 2, "prompt_sets_per_job": 2, "scorers_per_job": 2},
        },
    )


def job_counts(output: str) -> dict[str, int]:
    table = output.rpartition("Job stats:")[2].partition("total")[0]
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}


class Benchmark:
    """A folder in which a small benchmark runs with the real commands, under the default profile.

    ``warm`` is a folder with a ``python`` that starts at once, and the commands as that runs them.
    """

    def __init__(self, folder: Path, config: dict[str, Any], warm: Path) -> None:
        self.folder, self.config, self.warm = folder, config, warm

    @property
    def root(self) -> Path:
        return self.folder / "results" / self.config["benchmark"]

    def start(self, python: str | Path = sys.executable) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own, with the commands of ``warm``; it prints to the file ``output``."""
        # As in an environment that is active, so that the workflow does not put another one in front.
        paths = [str(self.warm), str(Path(sys.executable).parent), os.environ["PATH"]]
        (self.folder / "bench.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))
        snakefile = ("--snakefile", str(ROOT / "Snakefile"), "--directory", str(self.folder))
        command = [str(python), "-m", "snakemake", *snakefile, "--configfile", str(self.folder / "bench.yaml")]
        with (self.folder / "output").open("wb") as output:
            return subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, "PATH": os.pathsep.join(paths)},
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A test run in the background of a shell inherits that Ctrl-C is ignored; a person's run does not.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def run(self) -> dict[str, int]:
        """Run to the end, Snakemake by ``warm`` too; number of jobs of each rule."""
        process = self.start(self.warm / "python")
        assert process.wait(timeout=600) == 0, self.output()
        return job_counts(self.output())

    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def tables(self) -> dict[str, bytes]:
        files = (file for file in sorted((self.root / "tables").iterdir()) if file.name != "costs.csv")
        return {file.name: file.read_bytes() for file in files}

    def copied(self, folder: Path) -> Benchmark:
        """The same benchmark with all its results in another folder."""
        # A lock is the mark of a running workflow, and this one runs nowhere.
        ignore = shutil.ignore_patterns("locks", "log")
        shutil.copytree(self.folder, folder, symlinks=True, ignore=ignore, dirs_exist_ok=True)
        return Benchmark(folder, copy.deepcopy(self.config), self.warm)


def _make_weights(folder: Path) -> None:
    """A base after a few steps, and untrained scorers of two architectures."""
    import torch

    from evals.networks import hf_clip
    from evals.scorers import imagereward, pickscore
    from worlds.miniature import tokenizer as world_tokenizer
    from worlds.miniature.base_training import BaseRecipe, train_base
    from worlds.miniature.scorer_training import word_piece_tokenizer

    torch.set_num_threads(1)
    train_base(BaseRecipe(pictures=256, autoencoder_steps=60, denoiser_steps=40, cycles=1, batch_size=16)).save(
        folder / "base"
    )
    torch.manual_seed(0)
    tokenizer = world_tokenizer.build()
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "num_hidden_layers": 1}
    text = {
        **sizes,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": world_tokenizer.CONTEXT_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    clip = hf_clip.build({"text_config": text, "vision_config": vision, "projection_dim": 16})
    pickscore.save(folder / "scorers/pickscore", clip, tokenizer)
    words = word_piece_tokenizer()
    med = {**sizes, "vocab_size": len(words), "max_position_embeddings": 20, "initializer_range": 0.2}
    reward = imagereward.build(med, vision, (8, 8, 4, 4))
    imagereward.save(folder / "scorers/imagereward", reward.eval(), med, vision, words)


@pytest.fixture(scope="session")
def weights(once: Once) -> Path:
    """A base and scorers of the miniature's architectures, made in seconds."""
    return once("weights", _make_weights)


@pytest.fixture(scope="session")
def benchmark_in(warm: Path) -> Callable[[Path, dict[str, Any]], Benchmark]:
    """Makes a benchmark in a folder from a config."""
    return lambda folder, config: Benchmark(folder, config, warm)


@pytest.fixture(scope="session")
def new_benchmark(weights: Path, warm: Path) -> Callable[[Path], Benchmark]:
    """Makes a benchmark that has not run: two variants, two seeds, two prompt sets of six prompts, three scorers."""

    def make(folder: Path) -> Benchmark:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resources").symlink_to(weights)
        variant = {"objective": "diffusion_dpo", "parameters": {"beta": 2000}, "pairs": "renders"}
        return Benchmark(
            folder,
            {
                "benchmark": "tiny",
                "base": {"name": "miniature", "family": "miniature", "path": "resources/base"},
                "pairs": {"renders": {"source": "miniature_renders", "options": {"pairs": 60, "heldout": 16}}},
                "training": {
                    "steps": 12,
                    "batch_size": 4,
                    "learning_rate": 1e-3,
                    "warmup_steps": 2,
                    "heldout_pairs": 16,
                    "log_every": 3,
                    "checkpoint_every": 2,
                    "drift_every": 4,
                },
                "variants": [{"name": "dpo", **variant}, {"name": "dpo+sdpo", **variant, "safeguard": {"mu": 0.9}}],
                "seeds": [0, 1],
                "prompt_sets": {
                    "seen": {"source": "miniature_seen", "limit": 6},
                    "relations": {"source": "miniature_relations", "limit": 6},
                },
                "generation": {"steps": 3, "batch_size": 4},
                "scorers": {
                    "oracle": {},
                    "pickscore": {"weights": "resources/scorers/pickscore"},
                    "imagereward": {"weights": "resources/scorers/imagereward"},
                },
                "statistics": {"confidence": 0.95},
                "report": {"grid": {"prompts": 4}},
                "execution": {"seeds_per_job": 2, "prompt_sets_per_job": 2, "scorers_per_job": 3},
            },
            warm,
        )

    return make


@pytest.fixture(scope="session")
def finished(once: Once, new_benchmark: Callable[[Path], Benchmark], warm: Path) -> Benchmark:
    """The benchmark after one undisturbed run; shared, so work on a copy of it."""

    def make(folder: Path) -> None:
        benchmark = new_benchmark(folder / "run")
        jobs = benchmark.run()
        (folder / "jobs.json").write_text(json.dumps(jobs))
        (folder / "config.json").write_text(json.dumps(benchmark.config))

    folder = once("finished", make)
    return Benchmark(folder / "run", json.loads((folder / "config.json").read_text()), warm)
