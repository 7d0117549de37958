"""Small random models in the real scorers' layouts, and images of every awkward kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

LETTERS = "abcdefghijklmnopqrstuvwxyz"
PROMPTS = [
    "a red cat",
    "",
    "two blue dogs on a green field",
    "the “quoted” &amp; the café",
    "long " * 60,
    "a red cat",
]


@pytest.fixture(autouse=True)
def same_initialisation() -> None:
    """The part of a model's parameters that comes from its own initialisation must not depend on the tests before."""
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def awkward_images() -> list[Image.Image]:
    """Six images: square, wide, tall by an odd pixel, palette, with alpha, grey."""
    generator = np.random.default_rng(0)

    def noise(width: int, height: int) -> Image.Image:
        coarse = generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.NEAREST)

    transparent = noise(30, 30).convert("RGBA")
    transparent.putalpha(Image.fromarray(generator.integers(0, 256, (30, 30), dtype=np.uint8)))
    return [
        noise(32, 32),
        noise(61, 40),
        noise(33, 50),
        noise(48, 36).quantize(6),
        transparent,
        noise(28, 28).convert("L"),
    ]


@pytest.fixture(scope="session")
def prompts() -> list[str]:
    return list(PROMPTS)


def randomise(module: Any, scale: float = 0.3, seed: int = 0) -> Any:
    """Give every parameter a visible random value, so that scores vary and no term is zero by its initialisation."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            parameter.add_(noise * scale) if parameter.ndim < 2 else parameter.copy_(noise * scale)
    return module.eval()


@pytest.fixture(scope="session")
def letter_tokenizer() -> Any:
    """CLIP tokenizer of 54 tokens: the letters, the letters at a word's end, start and end token."""
    from transformers.models.clip.tokenization_clip import CLIPTokenizer

    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={token: index for index, token in enumerate(tokens)}, merges=[], model_max_length=16)


def hf_clip_config(**vision: Any) -> dict[str, Any]:
    shared = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    return {
        "model_type": "clip",
        "projection_dim": 24,
        "text_config": {
            **shared,
            "vocab_size": 54,
            "max_position_embeddings": 16,
            "bos_token_id": 52,
            "eos_token_id": 53,
            "pad_token_id": 53,
            "hidden_act": "gelu",
        },
        # The tower's own projection_dim is wrong on purpose: the full model's counts.
        "vision_config": {
            **shared,
            "image_size": 28,
            "patch_size": 14,
            "hidden_act": "gelu",
            "projection_dim": 7,
            **vision,
        },
    }


@pytest.fixture
def pickscore_folder(tmp_path: Path, letter_tokenizer: Any) -> Path:
    from evals.networks import hf_clip
    from evals.scorers import pickscore

    pickscore.save(tmp_path / "pickscore", randomise(hf_clip.build(hf_clip_config())), letter_tokenizer)
    return tmp_path / "pickscore"


def open_clip_cfg(tokenizer: str | None = None, vocab_size: int = 49408, **changes: Any) -> dict[str, Any]:
    text = {"context_length": 77, "vocab_size": vocab_size, "width": 32, "heads": 2, "layers": 2}
    return {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 28, "layers": 2, "width": 32, "head_width": 16, "patch_size": 14},
        "text_cfg": text if tokenizer is None else {**text, "hf_tokenizer_name": tokenizer},
        **changes,
    }


@pytest.fixture
def open_clip_folder(tmp_path: Path) -> Path:
    from evals.networks import open_clip_model

    cfg = open_clip_cfg()
    open_clip_model.save(tmp_path / "open_clip", randomise(open_clip_model.build(cfg), 0.2), cfg)
    return tmp_path / "open_clip"


MED_CONFIG = {
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 40,
    "max_position_embeddings": 48,
    "vocab_size": 20,
}
BLIP_VISION = {
    "image_size": 28,
    "patch_size": 7,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "cat", "two", "blue", "dogs", "on", "the", "long"]
WORDS += ["'", "quoted", "cafe", "&"]


@pytest.fixture
def imagereward_folder(tmp_path: Path) -> Path:
    """18 words: the two tokens that BLIP adds make the 20 of ``med_config.json``, as in the published files."""
    from transformers.models.bert.tokenization_bert import BertTokenizer

    from evals.scorers import imagereward

    tokenizer = BertTokenizer(vocab={word: index for index, word in enumerate(WORDS)})
    model = randomise(imagereward.build(MED_CONFIG, BLIP_VISION, [12, 8, 6, 4]), 0.4)
    imagereward.save(tmp_path / "imagereward", model, MED_CONFIG, BLIP_VISION, tokenizer)
    return tmp_path / "imagereward"


@pytest.fixture
def aesthetic_folder(tmp_path: Path) -> Path:
    from evals.networks import hf_clip
    from evals.networks.affine_head import AffineHead
    from evals.scorers import aesthetic

    model = randomise(hf_clip.build(hf_clip_config()))
    aesthetic.save(tmp_path / "aesthetic", model, randomise(AffineHead(24, [10, 8, 6, 4]), 0.5))
    return tmp_path / "aesthetic"


@pytest.fixture
def check_batching(awkward_images: list[Image.Image], prompts: list[str]) -> Callable[[Callable[[int], Any]], None]:
    """Check that scores depend on neither batch size nor order, and that they vary."""

    def check(make: Callable[[int], Any]) -> None:
        whole = make(64).score(awkward_images, prompts)
        assert whole.dtype == np.float64
        assert whole.shape == (6,)
        assert whole.std() > 0.01
        single = make(1).score(awkward_images, prompts)
        scorer = make(4)
        alone = [scorer.score([image], [prompt])[0] for image, prompt in zip(awkward_images, prompts, strict=True)]
        order = [3, 0, 5, 1, 4, 2]
        shuffled = scorer.score([awkward_images[i] for i in order], [prompts[i] for i in order])
        for other in (single, np.array(alone), shuffled[np.argsort(order)]):
            # Features are off by some 1e-6 of their length, and so is a score near zero.
            np.testing.assert_allclose(other, whole, rtol=1e-5, atol=1e-5)

    return check


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained miniature base."""
    from worlds.miniature import base_training, tokenizer

    torch.manual_seed(0)
    words = tokenizer.build()
    folder = tmp_path_factory.mktemp("base") / "miniature"
    base_training.BaseModules(
        base_training.build_autoencoder(),
        base_training.build_text_encoder(words),
        words,
        base_training.build_unet(),
        base_training.build_scheduler(),
    ).save(folder)
    return folder


def _tiny_parts(tokenizer: Any, text_width: int, **unet: Any) -> dict[str, Any]:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    return {
        "tokenizer": tokenizer,
        "vae": randomise(
            AutoencoderKL(
                block_out_channels=(8, 16),
                down_block_types=("DownEncoderBlock2D",) * 2,
                up_block_types=("UpDecoderBlock2D",) * 2,
                latent_channels=4,
                norm_num_groups=4,
                sample_size=16,
            ),
            0.2,
        ),
        "unet": randomise(
            UNet2DConditionModel(
                sample_size=8,
                block_out_channels=(8, 16),
                down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
                up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
                layers_per_block=1,
                norm_num_groups=4,
                cross_attention_dim=text_width,
                attention_head_dim=4,
                **unet,
            ),
            0.15,
        ),
    }


def _tiny_clip_text(kind: str, width: int) -> Any:
    import transformers

    config = transformers.CLIPTextConfig(
        vocab_size=54,
        max_position_embeddings=16,
        hidden_size=width,
        intermediate_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        projection_dim=12,
        bos_token_id=52,
        eos_token_id=53,
        pad_token_id=53,
    )
    return randomise(getattr(transformers, kind)(config), 0.3, seed=width)


# As the published repositories have them; what they leave out is each scheduler class's own default.
_NOISE_SCHEDULE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
_SHARED = {**_NOISE_SCHEDULE, "num_train_timesteps": 1000, "clip_sample": False, "set_alpha_to_one": False}
SCHEDULER_CONFIGS = {
    "sd": {**_SHARED, "_class_name": "PNDMScheduler", "skip_prk_steps": True, "trained_betas": None},
    "sdxl": {
        **_SHARED,
        "_class_name": "EulerDiscreteScheduler",
        "interpolation_type": "linear",
        "prediction_type": "epsilon",
        "timestep_spacing": "leading",
        "use_karras_sigmas": False,
    },
}


@pytest.fixture(scope="session")
def save_tiny_base(letter_tokenizer: Any) -> Callable[..., Path]:
    """Writes a random pipeline with all the parts of Stable Diffusion 1.5 or of SDXL, 16 x 16 pixels."""

    def save(folder: Path, kind: str = "sd", **scheduler: Any) -> Path:
        import diffusers

        made = {"_class_name": "", "prediction_type": "epsilon", **SCHEDULER_CONFIGS[kind], **scheduler}
        shared = {
            "text_encoder": _tiny_clip_text("CLIPTextModel", 16),
            "scheduler": getattr(diffusers, made["_class_name"])(),
        }
        if kind == "sd":
            pipeline: Any = diffusers.StableDiffusionPipeline(
                **_tiny_parts(letter_tokenizer, 16),
                **shared,
                safety_checker=None,
                feature_extractor=None,
                requires_safety_checker=False,
            )
        else:
            added = {
                "addition_embed_type": "text_time",
                "addition_time_embed_dim": 8,
                "projection_class_embeddings_input_dim": 6 * 8 + 12,
            }
            pipeline = diffusers.StableDiffusionXLPipeline(
                **_tiny_parts(letter_tokenizer, 16 + 24, **added),
                **shared,
                tokenizer_2=letter_tokenizer,
                text_encoder_2=_tiny_clip_text("CLIPTextModelWithProjection", 24),
            )
        pipeline.save_pretrained(folder)
        config = {**SCHEDULER_CONFIGS[kind], **scheduler}
        (folder / "scheduler/scheduler_config.json").write_text(json.dumps(config))
        return folder

    return save
