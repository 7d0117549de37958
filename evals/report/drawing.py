"""What draws the charts: Vega-Lite's own scripts for the page, and the same without a browser for PNG files."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

_SCALE = 2.0
"""Pixels of a PNG for each of the chart's."""


def png(spec: dict[str, Any], config: dict[str, Any]) -> bytes:
    """A chart as PNG on white; equal charts give equal bytes on one machine."""
    converter = _with_fonts()
    drawn: bytes = converter.vegalite_to_png(spec, config=config, scale=_SCALE, allowed_base_urls=[])
    return drawn


@cache
def scripts() -> str:
    """JavaScript that sets ``vegaEmbed``, with all that it needs (about 0.9 MB); no network is asked."""
    import vl_convert

    bundle: str = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return bundle


def font_folder() -> Path:
    """DejaVu Sans as matplotlib ships it: the same letters on every machine, and more than Latin ones."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@cache
def _with_fonts() -> Any:
    import vl_convert

    vl_convert.register_font_directory(str(font_folder()))
    return vl_convert
