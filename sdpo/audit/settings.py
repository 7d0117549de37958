"""What an audit measures, as the config and the job description state it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from artifacts.block import BaseBlock, Block, JobSpec, Seed
from sdpo.training.settings import ObjectiveBlock

_Slack = Annotated[float, Field(ge=0, le=1)]
_Rate = Annotated[float, Field(gt=0)]


class AuditSettings(Block):
    """Batches, slacks and steps of an audit."""

    split: Literal["train", "heldout"] = Field(default="train", description="Pairs it draws from.")
    batches: int = Field(default=32, ge=1, description="Micro-batches measured.")
    mu: list[_Slack] = Field(
        default=[0.0, 0.9], min_length=1, description="Slacks μ in [0, 1]; 0 tests the bound itself, without margin."
    )
    sgd: list[_Rate] = Field(default=[1e-4, 1e-3, 1e-2], description="Learning rates of plain gradient descent.")
    adamw: list[_Rate] = Field(default=[1e-5, 1e-4, 1e-3], description="Learning rates of AdamW.")
    warmed_batches: int = Field(
        default=10,
        ge=0,
        description="Other micro-batches whose gradients fill AdamW's state for its second measurement, at unchanged "
        "weights; 0 leaves that measurement out.",
    )
    seed: Seed = Field(default=0, description="Seed of pairs, noise and timesteps.")


class StepSettings(Block):
    """The settings of training that shape one step."""

    batch_size: int = Field(default=16, ge=1, description="Pairs a micro-batch.")
    max_grad_norm: float | None = Field(
        default=1.0, gt=0, description="L2 norm to which the objective's gradient is clipped; null does not clip."
    )
    weight_decay: float = Field(default=0.01, ge=0, description="Weight decay of AdamW.")


class AuditedModel(Block):
    """A model; ``path`` is the folder of its denoiser, null for the base itself."""

    name: str
    path: str | None = None


class AuditSpec(JobSpec):
    """The job description of ``sdpo audit``; without ``models`` the base alone is audited."""

    base: BaseBlock = Field(description="Reference of the objective, and what models are loaded into.")
    models: Annotated[list[AuditedModel], Field(min_length=1)] | None = None
    pairs: str = Field(description="Folder of the pair cache.")
    objective: ObjectiveBlock = Field(description="The objective whose steps are taken; its safeguard without μ.")
    step: StepSettings = StepSettings()
    settings: AuditSettings = AuditSettings()
    threads: int = Field(default=1, ge=1)
    out: str = Field(description="Folder of what is written.")
