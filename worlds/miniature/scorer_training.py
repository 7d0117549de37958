"""Training of the miniature scorers: the five architectures of the paper, small, in their published formats.

The contrastive models come first, as in the world outside: PickScore and HPSv2 are fine-tuned from a CLIP on
preferences (with soft labels, and with ties dropped), the aesthetic head is fitted on a frozen CLIP's embeddings,
and ImageReward ranks with its own BLIP.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from artifacts.progress import progress
from worlds.miniature import tokenizer as world_tokenizer
from worlds.miniature.preferences import Preferences, training_preferences
from worlds.miniature.rendering import IMAGE_SIZE_PX, faulty, to_uint8
from worlds.miniature.scenes import training_scene
from worlds.miniature.scorer_data import ScorerData

if TYPE_CHECKING:
    import torch

WIDTH, HEADS, PATCH_PX = 64, 4, 4
VISION_LAYERS, TEXT_LAYERS = 3, 2
# ImageReward's tokens: [CLS], 14 words, [SEP], and room to spare.
REWARD_TOKENS = 20


@dataclass(frozen=True)
class ScorerRecipe:
    """Amounts of data and lengths of the training. The defaults are the recipe of the shipped weights.

    Attributes:
        prompts, heldout, driven_off_steps: see :func:`worlds.miniature.scorer_data.build`.
        captioned: pictures with captions that CLIP is pretrained on.
        renders: pairs of new renders among the preferences.
    """

    seed: int = 0
    prompts: int = 3600
    heldout: int = 600
    driven_off_steps: int = 100
    captioned: int = 20_000
    renders: int = 30_000
    contrastive_steps: int = 1000
    preference_steps: int = 1800
    reward_steps: int = 2600
    head_steps: int = 400
    batch_size: int = 64
    learning_rate: float = 1e-3


def train_all(data: ScorerData, out: Path, recipe: ScorerRecipe, only: Sequence[str] | None = None) -> None:
    """Train the scorers and write one folder each below ``out``.

    Args:
        only: names of the scorers to train; all five without it.
    """
    torch_clip = {"pickscore", "aesthetic"}
    open_clip = {"hpsv2", "clip"}
    wanted = set(only or torch_clip | open_clip | {"imagereward"})
    preferences = training_preferences(data, renders=recipe.renders, seed=recipe.seed)
    if wanted & torch_clip:
        _train_transformers_clip(data, preferences, out, recipe)
    if wanted & open_clip:
        _train_open_clip(preferences, out, recipe)
    if "imagereward" in wanted:
        _train_image_reward(preferences, out, recipe)


def _pixels(pictures: NDArray[np.uint8]) -> torch.Tensor:
    """Pictures (..., 32, 32, 3), normalised as the scorers will see them: (..., 3, 32, 32)."""
    import torch

    from evals.networks.preprocessing import Preprocessing

    flat = torch.from_numpy(pictures.reshape(-1, IMAGE_SIZE_PX, IMAGE_SIZE_PX, 3)).permute(0, 3, 1, 2)
    normalised = Preprocessing(IMAGE_SIZE_PX).normalise(flat)
    return normalised.reshape(*pictures.shape[:-3], 3, IMAGE_SIZE_PX, IMAGE_SIZE_PX)


def _captioned(recipe: ScorerRecipe, tokenizer: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What CLIP is pretrained on: pictures of the training split, some degraded, and the tokens of their captions."""
    rng = np.random.default_rng([31, recipe.seed])
    scenes = [training_scene(rng) for _ in range(recipe.captioned)]
    pictures = to_uint8(faulty(scenes, rng, contradiction=0.0, degradation=0.15))
    ids = tokenizer([s.caption for s in scenes], padding="max_length", truncation=True, return_tensors="pt")
    return _pixels(pictures), ids["input_ids"]


def _batches(count: int, size: int, steps: int, seed: int, label: str) -> Iterator[NDArray[np.int64]]:
    rng = np.random.default_rng([29, seed])
    for _ in progress(range(steps), label=label, unit="step"):
        yield rng.choice(count, size=min(size, count), replace=False)


def _fit(
    parameters: Sequence[torch.nn.Parameter],
    loss_of: Callable[[NDArray[np.int64]], torch.Tensor],
    batches: Iterator[NDArray[np.int64]],
    *,
    learning_rate: float,
    steps: int,
) -> None:
    import torch

    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps, pct_start=0.1)
    for chosen in batches:
        loss = loss_of(chosen)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()


Embed = Callable[["torch.Tensor"], "torch.Tensor"]


def _contrastive(
    image: Embed, text: Embed, scale: torch.Tensor, pixels: torch.Tensor, ids: torch.Tensor
) -> Callable[[NDArray[np.int64]], torch.Tensor]:
    """CLIP's loss on pictures (N, 3, 32, 32) and the tokens of their captions."""
    import torch
    from torch.nn.functional import cross_entropy

    def loss_of(rows: NDArray[np.int64]) -> torch.Tensor:
        chosen = torch.from_numpy(rows)
        logits = scale.exp() * image(pixels[chosen]) @ text(ids[chosen]).T
        target = torch.arange(len(rows))
        return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2

    return loss_of


def _preference(
    image: Embed,
    text: Embed,
    scale: torch.Tensor,
    ids: torch.Tensor,
    preferences: Preferences,
) -> Callable[[NDArray[np.int64]], torch.Tensor]:
    """Cross-entropy of the softmax over a pair's scaled cosines with its (soft) label."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    def loss_of(rows: NDArray[np.int64]) -> torch.Tensor:
        caption, *sides = preferences.pairs[rows].T
        words = text(ids[torch.from_numpy(caption)])
        one, two = image(_pixels(preferences.pictures[np.concatenate(sides)])).chunk(2)
        gap = scale.exp() * ((one - two) * words).sum(-1)
        return binary_cross_entropy_with_logits(gap, torch.from_numpy(preferences.labels[rows]).float())

    return loss_of


def _train_transformers_clip(data: ScorerData, preferences: Preferences, out: Path, recipe: ScorerRecipe) -> None:
    import torch
    from safetensors.torch import save_file

    from evals.networks import hf_clip
    from evals.networks.affine_head import AffineHead

    torch.manual_seed(recipe.seed)
    tokenizer = world_tokenizer.build()
    sizes = {"hidden_size": WIDTH, "intermediate_size": 4 * WIDTH, "num_attention_heads": HEADS}
    text = {
        **sizes,
        "num_hidden_layers": TEXT_LAYERS,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": world_tokenizer.CONTEXT_LENGTH,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "hidden_act": "gelu",
    }
    vision = {
        **sizes,
        "num_hidden_layers": VISION_LAYERS,
        "image_size": IMAGE_SIZE_PX,
        "patch_size": PATCH_PX,
        "hidden_act": "gelu",
    }
    model = hf_clip.build({"text_config": text, "vision_config": vision, "projection_dim": WIDTH})
    model.train()
    ids = tokenizer(preferences.captions, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    mask = torch.ones_like(ids)
    parts: tuple[Embed, Embed, torch.Tensor] = (
        lambda x: hf_clip.image_embedding(model, x),
        lambda t: hf_clip.text_embedding(model, t, mask[: len(t)]),
        model.logit_scale,
    )
    parameters = list(model.parameters())
    steps = recipe.contrastive_steps
    batches = _batches(recipe.captioned, recipe.batch_size, steps, recipe.seed, "CLIP, transformers")
    captioned = _captioned(recipe, tokenizer)
    _fit(parameters, _contrastive(*parts, *captioned), batches, learning_rate=recipe.learning_rate, steps=steps)

    # The aesthetic predictor: head on the frozen embedding, target the oracle's cleanness on a scale of 1 to 10.
    with torch.no_grad():
        shown = _pixels(data.pictures[: data.first_heldout]).flatten(0, 1)
        embeddings = torch.cat([parts[0](part) for part in shown.split(512)])
    target = torch.from_numpy(1 + 9 * data.cleanness[: data.first_heldout].reshape(-1)).float()
    head = AffineHead(WIDTH, (32, 16, 16, 8))
    with torch.no_grad():
        dict(head.named_parameters())["layers.7.bias"].fill_(float(target.mean()))
    batches = _batches(len(shown), 512, recipe.head_steps, recipe.seed, "aesthetic head")
    _fit(
        list(head.parameters()),
        lambda rows: torch.nn.functional.mse_loss(head(embeddings[rows]), target[rows]),
        batches,
        learning_rate=1e-2,
        steps=recipe.head_steps,
    )
    folder = out / "aesthetic"
    model.save_pretrained(folder / "clip")
    save_file({k: v.contiguous() for k, v in head.state_dict().items()}, folder / "head.safetensors")

    steps = recipe.preference_steps
    batches = _batches(len(preferences.pairs), recipe.batch_size, steps, recipe.seed, "PickScore")
    loss = _preference(*parts, ids, preferences)
    _fit(parameters, loss, batches, learning_rate=recipe.learning_rate / 2, steps=steps)
    model.save_pretrained(out / "pickscore")
    tokenizer.save_pretrained(str(out / "pickscore"))


def _train_open_clip(preferences: Preferences, out: Path, recipe: ScorerRecipe) -> None:
    import torch

    from evals.networks import open_clip_model

    torch.manual_seed(recipe.seed + 1)
    tokenizer = world_tokenizer.build()
    config: dict[str, Any] = {
        "embed_dim": WIDTH,
        "vision_cfg": {
            "image_size": IMAGE_SIZE_PX,
            "layers": VISION_LAYERS,
            "width": WIDTH,
            "head_width": WIDTH // HEADS,
            "patch_size": PATCH_PX,
        },
        "text_cfg": {
            "context_length": world_tokenizer.CONTEXT_LENGTH,
            "vocab_size": len(tokenizer),
            "width": WIDTH,
            "heads": HEADS,
            "layers": TEXT_LAYERS,
            "hf_tokenizer_name": ".",
        },
    }
    model = open_clip_model.build(config)
    model.train()
    ids = tokenizer(preferences.captions, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    parts: tuple[Embed, Embed, torch.Tensor] = (
        lambda x: open_clip_model.image_embedding(model, x),
        lambda t: open_clip_model.text_embedding(model, t),
        model.logit_scale,
    )
    parameters = list(model.parameters())
    steps = recipe.contrastive_steps
    batches = _batches(recipe.captioned, recipe.batch_size, steps, recipe.seed + 1, "CLIP, open_clip")
    captioned = _captioned(recipe, tokenizer)
    _fit(parameters, _contrastive(*parts, *captioned), batches, learning_rate=recipe.learning_rate, steps=steps)
    open_clip_model.save(out / "clip", model, config, tokenizer)

    decided, steps = preferences.without_ties(), recipe.preference_steps
    batches = _batches(len(decided.pairs), recipe.batch_size, steps, recipe.seed + 1, "HPSv2")
    loss = _preference(*parts, ids, decided)
    _fit(parameters, loss, batches, learning_rate=recipe.learning_rate / 2, steps=steps)
    open_clip_model.save(out / "hpsv2", model, config, tokenizer)


def word_piece_tokenizer() -> Any:
    """A BERT tokenizer whose vocabulary is the words of the world."""
    from transformers import BertTokenizer

    from evals.scorers.imagereward import ADDED_TOKENS

    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *world_tokenizer.words(), *ADDED_TOKENS]
    return BertTokenizer(vocab={token: i for i, token in enumerate(tokens)}, model_max_length=REWARD_TOKENS)


def _train_image_reward(preferences: Preferences, out: Path, recipe: ScorerRecipe) -> None:
    import torch
    from torch.nn.functional import logsigmoid

    from evals.scorers import imagereward

    torch.manual_seed(recipe.seed + 2)
    tokenizer = word_piece_tokenizer()
    med = {
        "vocab_size": len(tokenizer),
        "hidden_size": WIDTH,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * WIDTH,
        "max_position_embeddings": REWARD_TOKENS,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 1 / math.sqrt(WIDTH),
    }
    vision = {
        "image_size": IMAGE_SIZE_PX,
        "patch_size": PATCH_PX,
        "hidden_size": WIDTH,
        "num_hidden_layers": VISION_LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * WIDTH,
    }
    model = imagereward.build(med, vision, (32, 16, 16, 8))
    model.train()
    # Dropout between the linear layers of a small head costs more than it teaches.
    model.mlp.eval()
    decided = preferences.without_ties()
    ids, mask = imagereward.tokenise(tokenizer, decided.captions, REWARD_TOKENS)

    def loss_of(rows: NDArray[np.int64]) -> torch.Tensor:
        caption, *sides = decided.pairs[rows].T
        both, prompt = _pixels(decided.pictures[np.concatenate(sides)]), torch.from_numpy(np.tile(caption, 2))
        one, two = model.reward(both, ids[prompt], mask[prompt]).chunk(2)
        sign = torch.from_numpy(2 * decided.labels[rows] - 1).float()
        return -logsigmoid(sign * (one - two)).mean()

    batches = _batches(len(decided.pairs), recipe.batch_size, recipe.reward_steps, recipe.seed + 2, "ImageReward")
    _fit(list(model.parameters()), loss_of, batches, learning_rate=recipe.learning_rate, steps=recipe.reward_steps)
    imagereward.save(out / "imagereward", model.eval(), med, vision, tokenizer)
