"""A language part that is asked as Ovis-U1's is and answers as it does, of a few thousand random weights.

Written into a tiny checkpoint as its own code. A token is a byte of the text, an image is four tokens of its mean, and
each token is told of those before it.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from transformers import PretrainedConfig, PreTrainedModel

PAD, IMAGE, IMAGE_TOKENS = 256, -300, 4


class StandInConfig(PretrainedConfig):  # type: ignore[misc, unused-ignore]
    """Keys of the original's that are used."""

    model_type = "ovis_u1"

    def __init__(self, llm_config: dict[str, Any] | None = None, **more: Any) -> None:
        super().__init__(**more)
        self.llm_config = llm_config


class StandIn(PreTrainedModel):  # type: ignore[misc, unused-ignore]
    """The methods that are called from outside."""

    config_class = StandInConfig
    _keys_to_ignore_on_load_unexpected = ("visual_generator",)

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        width = config.llm_config["hidden_size"]
        self.llm = torch.nn.ModuleDict(
            {"words": torch.nn.Embedding(PAD + 1, width), "first": torch.nn.Linear(2 * width, width)}
        )
        self.post_init()

    def get_text_tokenizer(self) -> Any:
        """What says the padding's number."""
        return SimpleNamespace(pad_token_id=PAD)

    def get_visual_tokenizer(self) -> Any:
        """What says the size of images."""

        def smart_resize(height: int, width: int, *, max_pixels: int) -> tuple[int, int]:
            assert (height, width, max_pixels) == (1024, 1024, 64)
            return 8, 8

        return SimpleNamespace(smart_resize=smart_resize, image_processor=SimpleNamespace(min_pixels=64))

    def preprocess_inputs(
        self, text: str, images: list[Any], **options: Any
    ) -> tuple[str, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens, with one number in place of the image."""
        print("told to standard output")
        assert options.pop("generation_preface") is None
        assert options.pop("multimodal_type") == "single_image"
        assert not options.pop("return_labels") and options.pop("propagate_exception")
        assert options == {"fix_sample_overall_length_navit": False}
        if "fail" in text:
            raise ValueError("a prompt\nthat cannot be read")
        (image,) = images
        assert image.size == (8, 8) and image.getpixel((0, 0)) == (255, 255, 255)
        before, _, after = text.partition("<image>")
        ids = [*before.encode(), IMAGE, *after.encode()]
        return text, torch.tensor(ids), torch.ones(1, 3), torch.tensor([[1, 2, 2]])

    def generate_condition(
        self, inputs: torch.Tensor, *, pixel_values: torch.Tensor, attention_mask: torch.Tensor, grid_thws: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The last layer beside the last but one, of the one text."""
        assert bool(attention_mask.all()) and grid_thws.shape == (1, 3)
        embedded = self.llm["words"](inputs[0].clamp(min=0))
        at = int((inputs[0] == IMAGE).nonzero()[0])
        image = pixel_values.mean().expand(IMAGE_TOKENS, embedded.shape[1])
        first = torch.cat([embedded[:at], image, embedded[at + 1 :]])
        so_far = first.cumsum(0) / torch.arange(1, len(first) + 1, dtype=first.dtype)[:, None]
        last = torch.tanh(self.llm["first"](torch.cat([first, so_far], dim=-1)))
        return {"txt": torch.cat([last, first], dim=-1)[None]}
