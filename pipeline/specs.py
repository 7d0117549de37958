"""From a benchmark to the specs of its jobs: plain JSON that says exactly what one command needs.

A spec holds nothing that its command does not use, so a changed or added variant, seed or scorer leaves the specs of
the other jobs as they were, and Snakemake leaves those jobs alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from artifacts import layout
from artifacts.atomic import json_sha256
from evals.tables.comparison import ComparedModel
from pipeline.chunks import Chunks, Shard
from pipeline.config import registries
from pipeline.stages import VERSIONS
from sdpo.training.settings import without_run_settings

Spec = dict[str, Any]


def encode(spec: Mapping[str, Any]) -> str:
    """A spec as compact JSON on one line, the argument of ``--spec``."""
    return json.dumps(spec, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True)
class Specs(Chunks):
    """What the command of each job of one benchmark is told."""

    def prompts_spec(self, prompt_set: str) -> Spec:
        """Spec of ``evals prompts``."""
        shown, block = self.benchmark.prompts_of(prompt_set)
        out = layout.prompts(self.root, prompt_set).as_posix()
        asked = [
            name
            for name in self.benchmark.scorers
            if hasattr(registries.scorer(name), "unjudgeable") and prompt_set in self.rated_by(name)
        ]
        judged = {"judged_by": asked} if asked else {}
        own = block.model_dump(include={"source", "limit", "options"})
        return self._spec("prompts", prompt_set=shown, **own, out=out, **judged)

    def pairs_spec(self, dataset: str) -> Spec:
        """Spec of ``sdpo pairs``."""
        out = layout.pairs(self.root, dataset, self.benchmark.base.name).as_posix()
        block = self.benchmark.pairs[dataset].model_dump()
        if not block["flipped"]:
            # As it was before there were flipped labels: caches without them stay as they are.
            del block["flipped"], block["flip_seed"]
        if block["encoding"]["sizes"] is None:
            # Nor were there sizes.
            del block["encoding"]["sizes"]
        return self._spec("pairs", dataset=dataset, **block, base=self._base, out=out)

    def joint_train_spec(self, variants: Sequence[str], seeds: Sequence[int]) -> Spec:
        """Spec of ``sdpo train`` for a job: that of its one variant, or those of several under ``together``."""
        specs = [self.train_spec(variant, seeds) for variant in variants]
        return specs[0] if len(specs) == 1 else {"together": specs}

    def train_spec(self, variant: str, seeds: Sequence[int]) -> Spec:
        """Spec of ``sdpo train`` for one variant."""
        own = self.variants[variant]
        return self._spec(
            "train",
            base=self._base,
            pairs=layout.pairs(self.root, own.pairs, self.benchmark.base.name).as_posix(),
            variant=variant,
            objective={
                "name": own.objective,
                "parameters": self.parameters(variant),
                "safeguard": None if own.safeguard is None else own.safeguard.model_dump(mode="json"),
            },
            training=self.training(variant).model_dump(),
            root=self.root.as_posix(),
            seeds=list(seeds),
        )

    def generate_spec(self, models: Sequence[str], prompt_sets: Sequence[str], shard: Shard = (0, 1)) -> Spec:
        """Spec of ``evals generate``, for models of one base."""
        base = self.bases[models[0].partition("/")[0]]
        blocks = {name: model for name in models if (model := self.external_models.get(name)) is not None}
        sources = {name: block.model_dump(include={"source", "file", "sha256"}) for name, block in blocks.items()}
        return self._spec(
            "generate",
            base=base.model_dump(exclude_none=True),
            root=self.root.as_posix(),
            models=list(models),
            **({"sources": sources} if sources else {}),
            prompt_sets=list(prompt_sets),
            **({"shard": list(shard)} if shard[1] > 1 else {}),
            generation=self.benchmark.generation.model_dump(),
            **({"apart": apart} if (apart := self._apart(prompt_sets)) else {}),
            **self._several(prompt_sets),
        )

    def _apart(self, prompt_sets: Sequence[str]) -> Spec:
        """Settings of the prompt sets that are not drawn as the others."""
        apart, settings = self.apart, self.benchmark.generation
        return {name: apart[name].generation.of(settings).model_dump() for name in prompt_sets if name in apart}

    def _several(self, prompt_sets: Sequence[str]) -> Spec:
        """Key of the prompt sets that have several images a prompt; no key without any."""
        counts = {name: self.benchmark.prompts_of(name)[1].images_per_prompt for name in prompt_sets}
        several = {name: count for name, count in counts.items() if count > 1}
        return {"images_per_prompt": several} if several else {}

    def collect_spec(self, models: Sequence[str], prompt_sets: Sequence[str]) -> Spec:
        """Spec of ``evals collect``, which puts together the images that several jobs have drawn."""
        return self._spec(
            "collect",
            root=self.root.as_posix(),
            models=list(models),
            prompt_sets=list(prompt_sets),
            shards=self.benchmark.execution.generation_shards,
            **self._several(prompt_sets),
        )

    def score_spec(
        self, models: Sequence[str], prompt_sets: Sequence[str], scorers: Sequence[str], shard: Shard = (0, 1)
    ) -> Spec:
        """Spec of ``evals score``."""
        blocks = {name: self.benchmark.scorers[name].model_dump(exclude={"prompt_sets"}) for name in scorers}
        return self._spec(
            "score",
            root=self.root.as_posix(),
            models=list(models),
            prompt_sets=list(prompt_sets),
            scorers={name: block | {"protocol": self.protocol(name)} for name, block in blocks.items()},
            **self._rated(prompt_sets, scorers),
            **({"shard": list(shard)} if shard[1] > 1 else {}),
            batch_size=self.benchmark.execution.score_batch_size,
            **({"cache": cache} if (cache := self.benchmark.execution.score_cache) else {}),
            **self._several(prompt_sets),
        )

    def gather_spec(self, models: Sequence[str], prompt_sets: Sequence[str], scorers: Sequence[str]) -> Spec:
        """Spec of ``evals gather``, which puts together the scores that several jobs have given."""
        return self._spec(
            "gather",
            root=self.root.as_posix(),
            models=list(models),
            prompt_sets=list(prompt_sets),
            rated={scorer: [name for name in prompt_sets if name in self.rated_by(scorer)] for scorer in scorers},
            shards=self.benchmark.execution.scoring_shards,
            **self._several(prompt_sets),
        )

    def _rated(self, prompt_sets: Sequence[str], scorers: Sequence[str]) -> Spec:
        """Key of the scorers that do not rate all of the prompt sets; no key without any."""
        rated = self.limits(scorers, prompt_sets)
        return {"rated": rated} if rated else {}

    def compare_spec(self) -> Spec:
        """Spec of ``evals compare`` and ``evals table``."""
        block = self.benchmark.published
        published = {} if block is None else {"published": block.model_dump()}
        return self._spec("compare", **self._comparison(), **published, config=self.config_digests())

    def config_digests(self) -> dict[str, str]:
        """Digest of each block of the config on which a number of the tables depends, by its key."""
        names = self.benchmark.prompt_sets
        blocks: dict[str, Spec] = {f"prompt_sets.{name}": self.prompts_spec(name) for name in names}
        for variant in dict.fromkeys(name for name, _ in self.compared_variants.values()):
            pairs = self.variants[variant].pairs
            if (key := f"pairs.{pairs}") not in blocks:
                blocks[key] = self.pairs_spec(pairs)
            spec = self.train_spec(variant, [])
            blocks[f"variants.{variant}"] = {**spec, "training": without_run_settings(spec["training"])}
        # The base has a key of its own; who judges a prompt set changes nothing of it.
        others = ("stage_version", "base", "judged_by")
        own = {key: {n: v for n, v in block.items() if n not in others} for key, block in blocks.items()}
        return {key: json_sha256(block) for key, block in {"base": self._base, **own}.items()}

    def report_spec(self) -> Spec:
        """Spec of ``evals report``."""
        block = self.benchmark.report
        grid = {
            "prompt_set": block.grid.prompt_set or next(iter(self.benchmark.prompt_sets)),
            "prompts": block.grid.prompts,
            "seed": next(iter(self.benchmark.seeds), 0) if block.grid.seed is None else block.grid.seed,
        }
        beside = {"beside": block.beside} if block.beside else {}
        agreement = block.scorer_agreement
        return self._spec("report", **self._comparison(), grid=grid, scorer_agreement=agreement, **beside)

    def track_spec(self) -> Spec:
        """Spec of ``evals track``."""
        store = self.results / "mlflow"
        return self._spec(
            "track",
            **self._comparison(),
            database=(store / "mlflow.db").as_posix(),
            artifacts=(store / "artifacts").as_posix(),
            marker=self.tracking_marker(),
        )

    @property
    def audited_variant(self) -> str | None:
        """The variant whose steps are audited; ``None`` if no objective has a loser."""
        with_loser = [v for v in self.benchmark.variants if registries.objective(v.objective).HAS_LOSER]
        first = [v.name for v in (*(v for v in with_loser if v.safeguard is not None), *with_loser)][:1]
        return self.benchmark.audit.variant or (first[0] if first else None)

    @property
    def audited_models(self) -> list[str]:
        """Trained models that are audited beside the base."""
        return [m for v in self.benchmark.audit.trained for m in self.models(v, self.benchmark.seeds[:1])]

    def audit_spec(self, variant: str) -> Spec:
        """Spec of ``sdpo audit`` for the steps of one variant."""
        own, training = self.variants[variant], self.training(variant)
        folders = {model: layout.model(self.root, model).as_posix() for model in self.audited_models}
        return self._spec(
            "audit",
            base=self._base,
            models=[{"name": name, "path": path} for name, path in {self.base_model: None, **folders}.items()],
            pairs=layout.pairs(self.root, own.pairs, self.benchmark.base.name).as_posix(),
            objective={
                "name": own.objective,
                "parameters": self.parameters(variant),
                "safeguard": {} if own.safeguard is None else own.safeguard.model_dump(mode="json", exclude={"mu"}),
            },
            step={
                "batch_size": training.micro_batch_size or training.batch_size,
                "max_grad_norm": training.max_grad_norm,
                "weight_decay": training.weight_decay,
            },
            settings=self.benchmark.audit.model_dump(exclude={"variant", "trained"}),
            threads=training.threads,
            out=(self.root / "audit").as_posix(),
        )

    def protocol(self, scorer: str) -> str:
        """Protocol of a scorer: as named, else the paper's, else the scorer's first."""
        protocols: Sequence[str] = registries.scorer(scorer).PROTOCOLS
        return self.benchmark.scorers[scorer].protocol or ("sdpo" if "sdpo" in protocols else protocols[0])

    def compared_models(self) -> list[ComparedModel]:
        """All models in table order, the base first."""
        base = self.benchmark.base.name
        rows = [ComparedModel(name=self.base_model, base=base, variant="base")]
        for row, (name, step) in self.compared_variants.items():
            variant, baseline = self.variants[name], self.baseline(name)
            if baseline is not None and step is not None:
                # Only at the same step does it differ by nothing but the safeguard.
                at_step = layout.at_step(baseline, step)
                baseline = at_step if at_step in self.compared_variants else None
            rows += [
                ComparedModel(
                    name=layout.model_name(base, row, seed),
                    base=base,
                    variant=row,
                    objective=variant.objective,
                    safeguard=variant.safeguard is not None,
                    seed=seed,
                    step=step,
                    pairs=variant.pairs,
                    baseline=baseline,
                )
                for seed in self.benchmark.seeds
            ]
        for name, model in self.external_models.items():
            owner = name.partition("/")[0]
            if model is None:
                rows.append(ComparedModel(name=name, base=owner, variant=owner))
                continue
            rows.append(
                ComparedModel(
                    name=name,
                    base=owner,
                    variant=model.name,
                    objective=model.objective,
                    safeguard=model.safeguard,
                    baseline=model.baseline,
                )
            )
        return rows

    @property
    def _base(self) -> Spec:
        return self.benchmark.base.model_dump(exclude_none=True)

    def _comparison(self) -> Spec:
        lower = [name for name in self.benchmark.scorers if getattr(registries.scorer(name), "LOWER_IS_BETTER", False)]
        describing = [name for name in self.benchmark.scorers if not getattr(registries.scorer(name), "JUDGES", True)]
        apart = {name: own.model_dump(exclude_none=True) for name, own in self.apart.items()}
        return {
            **self._rated(list(self.benchmark.prompt_sets), list(self.benchmark.scorers)),
            **({"lower_is_better": lower} if lower else {}),
            **({"no_judges": describing} if describing else {}),
            **({"comparisons": asked} if (asked := self.benchmark.comparisons) else {}),
            "benchmark": self.benchmark.benchmark,
            "root": self.root.as_posix(),
            "models": [model.model_dump() for model in self.compared_models()],
            "prompt_sets": list(self.benchmark.prompt_sets),
            "scorers": {name: self.protocol(name) for name in self.benchmark.scorers},
            "statistics": self.benchmark.statistics.model_dump(),
            "generation": self.benchmark.generation.model_dump(),
            **({"apart": apart} if apart else {}),
            **self._several(list(self.benchmark.prompt_sets)),
        }

    def _spec(self, stage: str, **content: Any) -> Spec:
        return {"stage_version": VERSIONS[stage], **content}
