"""The miniature base: shaped like Stable Diffusion 1.5, so its family is that one."""

from sdpo.bases.sd15 import FLOW, open_base

__all__ = ["FLOW", "open_base"]
