"""Block ``execution``: how the work is cut into jobs; no result depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from artifacts.block import Block
from pipeline.config.slurm import Slurm
from sdpo.training.sharding import Sharding

SHARING = ("seeds_per_job", "prompt_sets_per_job", "scorers_per_job")
"""Keys that decide how much one job does; 1 where jobs have a GPU each.

There a job is long, and many of them are to run side by side; on a processor, starting one takes longer than its work.
"""


class Execution(Block):
    """How the work is cut into jobs and what a job may use; no result depends on it.

    Left out, seeds, prompt sets and scorers share jobs as below, since starting one takes seconds. With `gpu` set they
    are 1 a job instead, so that as many jobs as possible run side by side.
    """

    seeds_per_job: int = Field(
        default=2,
        ge=1,
        description="Seeds of one variant that one job trains, draws from and scores.",
    )
    variants_per_job: int = Field(
        default=1,
        ge=1,
        description="Consecutive variants that one job trains, draws from and scores; a family that can trains them "
        "at once.",
    )
    baselines_share_jobs: bool = Field(
        default=False,
        description="A variant and the first one that it is the baseline of (`x` and `x+sdpo`) are trained, drawn and "
        "scored by one job, which saves process starts; not together with `variants_per_job`. Changing one of the two "
        "then trains both; variants added after them have jobs of their own.",
    )
    generation_shards: int = Field(
        default=1,
        ge=1,
        description="Jobs among which the images of a model on a prompt set are shared out, for as many GPUs.",
    )
    scoring_shards: int = Field(
        default=1,
        ge=1,
        description="Jobs among which the scoring of a model's images on a prompt set is shared out, in whole batches.",
    )
    prompt_sets_per_job: int = Field(default=2, ge=1, description="Prompt sets that one job draws or scores.")
    scorers_per_job: int = Field(default=4, ge=1, description="Scorers that share one job and its preprocessing.")
    score_cache: str | None = Field(
        default=None,
        description="Folder of scores that are never computed twice, shared by benchmarks; must not lie on a network "
        "file system that jobs of several machines write to. Left out, every score file is computed whole.",
    )
    score_batch_size: int = Field(default=64, ge=1, description="Images a scorer rates at once.")
    encoding_processes: int = Field(
        default=1, ge=1, description="Processes that encode one pair set; with GPUs, one each is as many as pay."
    )
    threads: int = Field(default=1, ge=1, description="CPU threads of a job; training has its own setting.")
    processes: int = Field(
        default=1,
        ge=1,
        description="Processes that train a model together, each on a GPU of its own if there are any.",
    )
    machines: int = Field(
        default=1,
        ge=1,
        description="Machines that the processes of a training are spread over, as many on each: nodes of one job of "
        "Slurm. `memory_mb` is that of each.",
    )
    sharding: Sharding = Field(
        default="replicated",
        description="What each of the processes holds of a model in training: all of it, or with `fsdp2` its share of "
        "weights, gradients and moments, for a denoiser whose training does not fit on one GPU.",
    )
    memory_mb: int = Field(default=3000, ge=1, description="Memory of a job in MB, `mem_mb` of Snakemake.")
    runtime_minutes: int = Field(
        default=60,
        ge=1,
        description="Time limit of a job on a cluster in minutes. A training saves its state and leaves before it is "
        "reached.",
    )
    max_memory_mb: int | None = Field(
        default=None,
        ge=1,
        description="A job that failed asks for `memory_mb` times the number of the attempt, up to this; a training "
        "does not. Left out, all attempts ask for the same.",
    )
    max_runtime_minutes: int | None = Field(
        default=None,
        ge=1,
        description="A job that failed asks for `runtime_minutes` times the number of the attempt, up to this. A "
        "training does not: it goes on in the next attempt. Left out, all attempts ask for the same.",
    )
    gpu: int = Field(
        default=0, ge=0, description="GPUs of each process of a job that encodes, trains, draws or scores."
    )
    slurm: Slurm = Field(default_factory=Slurm, description="Where on a Slurm cluster the jobs run.")

    def options(self, **keys: str) -> dict[str, int | str]:
        """Options of a command, without those that are at their default.

        Args:
            keys: key of this block for each.
        """
        defaults = {name: field.default for name, field in type(self).model_fields.items()}
        return {option: getattr(self, key) for option, key in keys.items() if getattr(self, key) != defaults[key]}

    @model_validator(mode="before")
    @classmethod
    def _shared(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        gpus = data.get("gpu")
        return {**(dict.fromkeys(SHARING, 1) if isinstance(gpus, int) and gpus > 0 else {}), **data}
