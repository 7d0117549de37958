"""The miniature base: shaped like Stable Diffusion, so its family is Stable Diffusion's."""

from sdpo.bases.stable_diffusion import open_base

__all__ = ["open_base"]
