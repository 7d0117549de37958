"""Forward process and training targets: epsilon, v-prediction and rectified flow.

Every process here is ``x_t = α·x0 + σ·ε`` with coefficients per sample:

===============  =================================  ==================  ====================
parametrisation  coefficients                       target              x0 from a prediction
===============  =================================  ==================  ====================
epsilon          α = √ᾱ_t, σ = √(1 − ᾱ_t)           ε                   (x_t − σ·ε̂) / α
v_prediction     α = √ᾱ_t, σ = √(1 − ᾱ_t)           α·ε − σ·x0          α·x_t − σ·v̂
flow             α = 1 − σ, σ in [0, 1]             ε − x0              x_t − σ·v̂
===============  =================================  ==================  ====================

Hence residuals convert, at one t, as ``r_ε = α·r_v`` and ``r_x0 = −σ·r_v``, for v-prediction and flow alike. The factor
is common to both members of a pair, which share t, so λ of a single pair is the same in every parametrisation; λ of a
micro-batch is not, since each weights its timesteps otherwise. Winner and loser also share ε: their targets are the
same for epsilon only.

Results are fp32 (fp64 for fp64 input): in bf16 the coefficients alone are off by up to 0.4 %.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from artifacts.errors import InputError
from artifacts.plugins import nearest

if TYPE_CHECKING:
    from torch import Generator, Tensor

Parametrisation = Literal["epsilon", "v_prediction", "flow"]


def ddpm_coefficients(alphas_cumprod: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor]:
    """α = √ᾱ_t and σ = √(1 − ᾱ_t), each (B,).

    Args:
        alphas_cumprod: ᾱ of a DDPM schedule, (T,), in [0, 1].
        timesteps: integers in [0, T), (B,).

    Raises:
        InputError: the timesteps are not integers, or not in the schedule.
    """
    import torch

    if timesteps.is_floating_point() or timesteps.is_complex() or timesteps.dtype == torch.bool:
        raise InputError(f"timesteps have dtype {timesteps.dtype}: expected integers (flow takes sigmas instead)")
    steps = len(alphas_cumprod)
    if ((timesteps < 0) | (timesteps >= steps)).any():
        raise InputError(
            f"timesteps from {int(timesteps.min())} to {int(timesteps.max())}: expected values in [0, {steps})"
        )
    alpha_bar = alphas_cumprod.to(timesteps.device)[timesteps.long()]
    alpha_bar = alpha_bar.to(torch.promote_types(alpha_bar.dtype, torch.float32))
    return alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()


def flow_coefficients(sigmas: Tensor) -> tuple[Tensor, Tensor]:
    """α = 1 − σ and σ, each (B,), for rectified flow; σ in [0, 1], 1 is noise.

    Raises:
        InputError: a sigma is outside [0, 1] or not a number.
    """
    import torch

    sigmas = sigmas.to(torch.promote_types(sigmas.dtype, torch.float32))
    if not ((sigmas >= 0) & (sigmas <= 1)).all():
        raise InputError(f"sigmas from {float(sigmas.min())} to {float(sigmas.max())}: expected values in [0, 1]")
    return 1.0 - sigmas, sigmas


def uniform_sigmas(count: int, generator: Generator | None = None) -> Tensor:
    """σ of rectified flow for training, (count,), uniform on [0, 1)."""
    import torch

    return torch.rand(count, generator=generator)


def noised(x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """x_t = α·x0 + σ·ε.

    Args:
        x0: clean latents, (B, ...).
        noise: ε of the same shape.
        alpha: coefficient of x0, (B,).
        sigma: coefficient of ε, (B,).

    Raises:
        InputError: shapes do not match.
    """
    x0, noise, alpha, sigma = _matched(x0, noise, alpha, sigma)
    return alpha * x0 + sigma * noise


def target(parametrisation: Parametrisation, x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
    """What the model should predict at x_t, of the shape of ``x0``; the arguments are those of :func:`noised`.

    Raises:
        InputError: unknown parametrisation, or shapes do not match.
    """
    known = list(get_args(Parametrisation))
    if parametrisation not in known:
        hint = nearest(str(parametrisation), known)
        raise InputError(f"parametrisation = {parametrisation!r}: expected one of {', '.join(known)}{hint}")
    x0, noise, alpha, sigma = _matched(x0, noise, alpha, sigma)
    if parametrisation == "epsilon":
        return noise
    if parametrisation == "v_prediction":
        return alpha * noise - sigma * x0
    return noise - x0


def predicted_sample(
    parametrisation: Parametrisation, predicted: Tensor, noisy: Tensor, alpha: Tensor, sigma: Tensor
) -> Tensor:
    """x0 that a prediction at x_t = ``noisy`` amounts to, (B, ...) in fp32 at least; α is not 0 for epsilon."""
    noisy, predicted, alpha, sigma = _matched(noisy, predicted, alpha, sigma)
    if parametrisation == "epsilon":
        return (noisy - sigma * predicted) / alpha
    return (alpha * noisy if parametrisation == "v_prediction" else noisy) - sigma * predicted


def _matched(x0: Tensor, noise: Tensor, alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Latents in fp32 at least, and coefficients shaped to multiply them."""
    import torch

    if noise.shape != x0.shape:
        raise InputError(f"noise has shape {tuple(noise.shape)}: expected that of x0, {tuple(x0.shape)}")
    for name, value in (("alpha", alpha), ("sigma", sigma)):
        if value.shape != x0.shape[:1]:
            raise InputError(f"{name} has shape {tuple(value.shape)}: expected {tuple(x0.shape[:1])}, one a sample")
    dtype = torch.promote_types(x0.dtype, torch.float32)
    shape = (-1, *[1] * (x0.ndim - 1))
    return x0.to(dtype), noise.to(dtype), alpha.to(dtype).reshape(shape), sigma.to(dtype).reshape(shape)
