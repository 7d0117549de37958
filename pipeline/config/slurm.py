"""Block ``execution.slurm``: where on a Slurm cluster the jobs run; no result depends on it."""

from __future__ import annotations

from pydantic import Field

from artifacts.block import Block


class Slurm(Block):
    """Where on a Slurm cluster the jobs run; read by `snakemake --profile profiles/slurm` alone."""

    account: str | None = Field(
        default=None, min_length=1, description="Account that jobs are charged to; left out, the cluster's default."
    )
    partition: str | None = Field(
        default=None, min_length=1, description="Partition of jobs without GPUs; left out, the cluster's default."
    )
    gpu_partition: str | None = Field(
        default=None, min_length=1, description="Partition of jobs with GPUs; left out, `partition`."
    )
    gpu_model: str | None = Field(
        default=None,
        pattern=r"^[a-zA-Z0-9_.-]+$",
        description="Model of the GPUs as `sinfo -o %G` spells it, such as `a100`; left out, any.",
    )
    qos: str | None = Field(default=None, min_length=1, description="Quality of service of all jobs.")
    constraint: str | None = Field(
        default=None, min_length=1, description="Features that the nodes of all jobs must have, such as `a100&nvlink`."
    )
    extra: str | None = Field(
        default=None, min_length=1, description="Further options of `sbatch` for all jobs, such as `--exclude=node7`."
    )

    def resources(self, gpus: int) -> dict[str, str]:
        """A job's resources by the names that Snakemake's Slurm executor has for them; what is left out is not in it.

        Args:
            gpus: of the job, in all its processes.
        """
        values = {
            "slurm_account": self.account,
            "slurm_partition": (gpus and self.gpu_partition) or self.partition,
            "gpu_model": self.gpu_model if gpus else None,
            "qos": self.qos,
            "constraint": self.constraint,
            "slurm_extra": self.extra,
        }
        return {name: value for name, value in values.items() if value}
