"""Human Preference Score v2 (Wu et al. 2023, arXiv:2306.09341): open_clip ViT-H-14 fine-tuned on HPD v2.

Protocols, in full in docs/scorers.md:

- ``sdpo``: version 2.0, stock open_clip preprocessing, raw cosine; range -1 to 1, about 0.27 on generated images;
- ``package``: as ``hpsv2.score`` of hpsv2 1.2.0, longest edge resized as a tensor and padded, raw cosine;
- ``author``: as the benchmark of that package, the same times 100.

``implementation: package`` runs the package itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from evals.networks import open_clip_model
from evals.networks.interface import Scorer
from evals.networks.open_clip_model import Convention

CONVENTIONS = {
    "sdpo": Convention(),
    "author": Convention(fit="pad", factor=100.0),
    "package": Convention(fit="pad"),
}
PROTOCOLS = tuple(CONVENTIONS)
IMPLEMENTATIONS = ("native", "package")
# antialias: false is what the package computes under torchvision before 0.17.
DEFAULTS: dict[str, Any] = {"antialias": True}
NEEDS_WEIGHTS = True
VERSION = 1
WEIGHTS = "HPS_v2_compressed.pt, or a folder with open_clip_config.json and HPS_v2*.pt or open_clip_model.safetensors"
PATTERNS = ("HPS_v2*.pt", open_clip_model.WEIGHT_FILE, "open_clip_pytorch_model.bin")


def create(
    *,
    protocol: str,
    weights: str | Path,
    device: str,
    dtype: str,
    batch_size: int,
    implementation: str = "native",
    options: Mapping[str, Any] = DEFAULTS,
) -> Scorer:
    """Load HPSv2 from :data:`WEIGHTS`; arguments as in :func:`evals.scorers.create`.

    Args:
        options: ``antialias`` (true) of the tensor resize of ``author`` and ``package``.

    Raises:
        InputError: the weights are missing, of another architecture, or HPS v2.1; or an option does not fit the
            protocol.
    """
    path = Path(weights)
    found = sorted(path.glob("HPS_v2.1*")) if path.is_dir() else [path] * path.name.startswith("HPS_v2.1")
    if found:
        raise InputError(f"{found[0]}: scorer 'hpsv2' is HPS v2.0; give HPS_v2_compressed.pt, or run scorer 'hpsv21'")
    return load("hpsv2", WEIGHTS, PATTERNS, protocol, weights, device, dtype, batch_size, implementation, options)


def load(
    scorer: str,
    expected: str,
    patterns: Sequence[str],
    protocol: str,
    weights: str | Path,
    device: str,
    dtype: str,
    batch_size: int,
    implementation: str,
    options: Mapping[str, Any],
) -> Scorer:
    """Either version of HPSv2, whose network and protocols are the same.

    Args:
        scorer: ``hpsv2`` or ``hpsv21``, whose weights they should be.
        expected: what ``weights`` should be, for messages.
        patterns: names of weight files in a folder, the preferred first; other arguments as for :func:`create`.

    Raises:
        InputError: as :func:`create`.
    """
    convention, antialias = CONVENTIONS[protocol], options["antialias"]
    if not isinstance(antialias, bool):
        raise InputError(f"scorer '{scorer}': options.antialias is {antialias!r}, expected true or false")
    if not antialias:
        if convention.fit != "pad" or implementation == "package":
            raise InputError(
                f"scorer '{scorer}': options.antialias is false, which only the native protocols 'author' and "
                "'package' can do; leave it out"
            )
        convention = replace(convention, fit="pad_aliased")
    if implementation == "package":
        from evals.networks import hpsv2_package

        file, config = open_clip_model.find(weights, scorer, expected, patterns)
        return hpsv2_package.create(
            scorer,
            file,
            open_clip_model.read_config(config, convention)[0],
            protocol=protocol,
            factor=convention.factor,
            version=VERSION,
            device=device,
            dtype=dtype,
        )
    return open_clip_model.create(
        scorer=scorer,
        version=VERSION,
        expected=expected,
        patterns=patterns,
        protocol=protocol,
        convention=convention,
        weights=weights,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
    )
