"""Tiny pipelines with the classes, layout and files of published bases, weights random.

Images are 32 pixels wide, latents 4 × 16 × 16 (the autoencoder halves once, not three times), prompts 16 tokens, of
T5 24. The vocabulary of CLIP is 256 bytes and two special tokens, so that any text can be encoded.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

TOKENS = 16
START, END = "<|startoftext|>", "<|endoftext|>"
TEXT_WIDTHS = (32, 48)
POOLED_WIDTH = 24


def _tokenizer() -> Any:
    from transformers import CLIPTokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    symbols = list(bytes_to_unicode().values())
    tokens = [*symbols, *(s + "</w>" for s in symbols), START, END]
    vocabulary: Any = {token: i for i, token in enumerate(tokens)}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKENS)


def _write_tokenizer(folder: Path, pad: str) -> None:
    """Write a tokenizer in the files of the published bases, which are older than ``tokenizer.json``."""
    shutil.rmtree(folder)
    folder.mkdir()
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": TOKENS, "do_lower_case": True, **special}
    (folder / "vocab.json").write_text(json.dumps(_tokenizer().get_vocab()), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _text_config(tokenizer: Any, width: int) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=POOLED_WIDTH,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def _vae(scaling_factor: float, shift_factor: float | None = None) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=scaling_factor,
        shift_factor=shift_factor,
    )


def _scheduler(kind: str, prediction_type: str) -> Any:
    """Schedule and offsets of the published configurations."""
    import diffusers

    own = {"timestep_spacing": "leading"} if kind == "EulerDiscreteScheduler" else {"skip_prk_steps": True}
    return getattr(diffusers, kind)(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        prediction_type=prediction_type,
        **own,
    )


def _unet(**options: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(16, 32),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4,
        **options,
    )


def save_sd15(folder: Path, *, prediction_type: str = "epsilon", seed: int = 0) -> Path:
    """Write a pipeline shaped like Stable Diffusion 1.5 (text width 32)."""
    import torch
    from diffusers import StableDiffusionPipeline
    from transformers import CLIPTextModel

    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    pipeline: Any = StableDiffusionPipeline(
        vae=_vae(0.18215),
        text_encoder=CLIPTextModel(_text_config(tokenizer, TEXT_WIDTHS[0])),
        tokenizer=tokenizer,
        unet=_unet(cross_attention_dim=TEXT_WIDTHS[0], attention_head_dim=4),
        scheduler=_scheduler("PNDMScheduler", prediction_type),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    _write_tokenizer(folder / "tokenizer", END)
    return folder


def save_sdxl(folder: Path, *, prediction_type: str = "epsilon", seed: int = 0) -> Path:
    """Write a pipeline shaped like Stable Diffusion XL (text widths 32 and 48, pooled 24)."""
    import torch
    from diffusers import StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    tokenizers = _tokenizer(), _tokenizer()
    time_width = 8
    unet = _unet(
        cross_attention_dim=sum(TEXT_WIDTHS),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        transformer_layers_per_block=(1, 2),
        addition_embed_type="text_time",
        addition_time_embed_dim=time_width,
        projection_class_embeddings_input_dim=6 * time_width + POOLED_WIDTH,
    )
    pipeline: Any = StableDiffusionXLPipeline(
        vae=_vae(0.13025),
        text_encoder=CLIPTextModel(_text_config(tokenizers[0], TEXT_WIDTHS[0])),
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizers[1], TEXT_WIDTHS[1])),
        tokenizer=tokenizers[0],
        tokenizer_2=tokenizers[1],
        unet=unet,
        scheduler=_scheduler("EulerDiscreteScheduler", prediction_type),
    )
    pipeline.save_pretrained(folder)
    _write_tokenizer(folder / "tokenizer", END)
    # The second tokenizer of SDXL pads with an exclamation mark.
    _write_tokenizer(folder / "tokenizer_2", "!")
    return folder


T5_TOKENS, T5_WIDTH = 24, 40
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _t5() -> tuple[Any, Any]:
    """Tokenizer of letters, and its encoder."""
    from transformers import T5Config, T5EncoderModel, T5Tokenizer

    letters = [(chr(code), -3.0) for code in range(97, 123)]
    vocabulary: Any = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -2.0), *letters]
    tokenizer = T5Tokenizer(vocab=vocabulary, extra_ids=2, model_max_length=T5_TOKENS)
    # The published vocabulary is padded, too.
    size = len(tokenizer) + 4
    config = T5Config(vocab_size=size, d_model=T5_WIDTH, d_kv=8, d_ff=48, num_layers=2, num_heads=4, dropout_rate=0.0)
    return tokenizer, T5EncoderModel(config)


def _flow_scheduler(**options: Any) -> Any:
    from diffusers import FlowMatchEulerDiscreteScheduler

    return FlowMatchEulerDiscreteScheduler(**options)


def save_sd3(folder: Path, *, seed: int = 0) -> Path:
    """Write a pipeline shaped like Stable Diffusion 3.5 medium (text width 40 of T5, pooled 24 + 24)."""
    import torch
    from diffusers import SD3Transformer2DModel, StableDiffusion3Pipeline
    from transformers import CLIPTextModelWithProjection

    torch.manual_seed(seed)
    tokenizers = _tokenizer(), _tokenizer()
    last, t5 = _t5()
    transformer = SD3Transformer2DModel(
        sample_size=16,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=2 * POOLED_WIDTH,
        pos_embed_max_size=12,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    pipeline: Any = StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=_flow_scheduler(shift=3.0),
        vae=_vae(1.5305, 0.0609),
        text_encoder=CLIPTextModelWithProjection(_text_config(tokenizers[0], 16)),
        tokenizer=tokenizers[0],
        text_encoder_2=CLIPTextModelWithProjection(_text_config(tokenizers[1], 24)),
        tokenizer_2=tokenizers[1],
        text_encoder_3=t5,
        tokenizer_3=last,
    )
    pipeline.save_pretrained(folder)
    _write_tokenizer(folder / "tokenizer", END)
    _write_tokenizer(folder / "tokenizer_2", "!")
    return folder


def save_flux(folder: Path, *, guidance: bool = True, seed: int = 0) -> Path:
    """Write a pipeline shaped like FLUX.1 dev, or schnell without guidance (text width 40, pooled 32)."""
    import torch
    from diffusers import FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel

    torch.manual_seed(seed)
    tokenizer = _tokenizer()
    last, t5 = _t5()
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=TEXT_WIDTHS[0],
        guidance_embeds=guidance,
        axes_dims_rope=(4, 6, 6),
    )
    pipeline: Any = FluxPipeline(
        transformer=transformer,
        scheduler=_flow_scheduler(shift=3.0, use_dynamic_shifting=True) if guidance else _flow_scheduler(),
        vae=_vae(0.3611, 0.1159),
        text_encoder=CLIPTextModel(_text_config(tokenizer, TEXT_WIDTHS[0])),
        tokenizer=tokenizer,
        text_encoder_2=t5,
        tokenizer_2=last,
    )
    pipeline.save_pretrained(folder)
    _write_tokenizer(folder / "tokenizer", END)
    return folder


def save_ovis_image(folder: Path, *, seed: int = 0) -> Path:
    """Write a pipeline shaped like Ovis-Image (text width 32 of a language model of two layers)."""
    import torch
    from diffusers import OvisImagePipeline, OvisImageTransformer2DModel
    from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3Model
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    torch.manual_seed(seed)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary: Any = {token: number for number, token in enumerate([*bytes_to_unicode().values(), *special])}
    tokenizer = Qwen2Tokenizer(vocab=vocabulary, merges=[], model_max_length=512)
    tokenizer.add_special_tokens({"additional_special_tokens": special[1:]})
    tokenizer.chat_template = CHAT
    config = Qwen3Config(
        vocab_size=len(tokenizer) + 4,
        hidden_size=TEXT_WIDTHS[0],
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
    )
    transformer = OvisImageTransformer2DModel(
        in_channels=16,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTHS[0],
        axes_dims_rope=(4, 6, 6),
    )
    pipeline: Any = OvisImagePipeline(
        transformer=transformer,
        scheduler=_flow_scheduler(shift=3.0, use_dynamic_shifting=True),
        vae=_vae(0.3611, 0.1159),
        text_encoder=Qwen3Model(config),
        tokenizer=tokenizer,
    )
    pipeline.save_pretrained(folder)
    return folder


OVIS_U1_WIDTH = 12
"""Hidden size of the stand-in for the language part of Ovis-U1; conditions are twice as wide."""


def save_ovis_u1(folder: Path, *, shards: int = 1, seed: int = 0, **generator: Any) -> Path:
    """Write a checkpoint with the files and names of Ovis-U1, and a stand-in for its language part.

    Args:
        shards: files of weights.
        generator: keys of ``visual_generator_config`` that are others than here.
    """
    import torch
    from safetensors.torch import save_file
    from transformers import Qwen2Tokenizer
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    from families.ovis_u1.transformer import OvisU1Transformer

    torch.manual_seed(seed)
    folder.mkdir(parents=True)
    vae = _vae(0.3611, 0.1159)
    own = {
        "in_channels": 16,
        "out_channels": 16,
        "vec_in_dim": 32,
        "context_in_dim": 2 * OVIS_U1_WIDTH,
        "hidden_size": 32,
        "mlp_ratio": 2,
        "num_heads": 2,
        "depth": 1,
        "depth_single_blocks": 1,
        "axes_dim": [4, 6, 6],
        **generator,
    }
    # Not the zeros that training starts from, so that every weight shows.
    network = OvisU1Transformer(**{key: x for key, x in own.items() if key not in OVIS_U1_SHIFT})
    with torch.no_grad():
        network.txt_in.cls_token.normal_()
    words, beside = torch.randn(257, OVIS_U1_WIDTH), torch.randn(OVIS_U1_WIDTH, 2 * OVIS_U1_WIDTH) / 4
    parts = {
        "llm": {"words.weight": words, "first.weight": beside, "first.bias": torch.zeros(OVIS_U1_WIDTH)},
        "visual_generator.vae": vae.state_dict(),
        "visual_generator.backbone": network.state_dict(),
    }
    weights = {f"{part}.{name}": x.contiguous() for part, state in parts.items() for name, x in state.items()}
    names = [f"model-{i + 1:05d}-of-{shards:05d}.safetensors" for i in range(shards)] if shards > 1 else []
    for i, file in enumerate(names or ["model.safetensors"]):
        some = dict(list(weights.items())[i::shards])
        save_file(some, folder / file, metadata={"format": "pt"})
    if names:
        index = {name: names[i % shards] for i, name in enumerate(weights)}
        about = {"metadata": {}, "weight_map": index}
        (folder / "model.safetensors.index.json").write_text(json.dumps(about), encoding="utf-8")
    classes = {"Config": "Config", "ModelForCausalLM": ""}
    config = {
        "architectures": ["StandIn"],
        "auto_map": {f"Auto{kind}": f"modeling_ovis_u1.StandIn{name}" for kind, name in classes.items()},
        "model_type": "ovis_u1",
        "llm_config": {"model_type": "qwen3", "hidden_size": OVIS_U1_WIDTH},
        "visual_generator_config": {"model_type": "yak", **own, "vae_config": dict(vae.config)},
    }
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    shutil.copy(Path(__file__).with_name("stand_in_language_part.py"), folder / "modeling_ovis_u1.py")
    vocabulary: Any = {token: number for number, token in enumerate([*bytes_to_unicode().values(), "<|endoftext|>"])}
    Qwen2Tokenizer(vocab=vocabulary, merges=[], model_max_length=512).save_pretrained(folder)
    return folder


OVIS_U1_SHIFT = ("timestep_shift", "base_shift", "max_shift", "txt_type")
"""Keys of the generator's configuration that are none of the network's."""


def ovis_u1_language() -> dict[str, Any]:
    """``base.language`` of such a checkpoint."""
    return {"allow_remote_code": True, "python": sys.executable, "revision": "0" * 40}
