"""Samplers of diffusion models: from noise to data, given a denoiser.

The process is x = x0 + sigma * noise (variance exploding), in which the probability flow is
dx/dsigma = (x - denoise(x, sigma)) / sigma (Karras et al. 2022, arXiv:2206.00364, equation 1). Letters: B batch,
S steps.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
"""Mean of x0 given x at noise level sigma: float32 (B, ...) of float32 (B, ...) and a float32 scalar."""

Noise = Callable[[int], Tensor]
"""Standard normal float32 (B, ...) of a step, a function of each sample's seed and the step alone."""

Sampler = Callable[[Denoise, Tensor, Tensor, Noise], Tensor]


def sigma_steps(steps: int, sigma_min: float, sigma_max: float, rho: float) -> Tensor:
    """Noise levels from ``sigma_max`` down to ``sigma_min``, then 0: float32 (S+1,) (equation 5)."""
    share_S = torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)
    high, low = sigma_max ** (1 / rho), sigma_min ** (1 / rho)
    return torch.cat([(high + share_S * (low - high)) ** rho, torch.zeros(1, dtype=torch.float64)]).float()


def _churned(
    x_B: Tensor, sigma: Tensor, steps: int, noise_B: Callable[[], Tensor], churn: float
) -> tuple[Tensor, Tensor]:
    """x with fresh noise, and its higher noise level (algorithm 2, lines 4 to 6)."""
    if not churn:
        return x_B, sigma
    higher = sigma * (1 + min(churn / steps, math.sqrt(2) - 1))
    return x_B + (higher**2 - sigma**2).sqrt() * noise_B(), higher


def euler(denoise: Denoise, x_B: Tensor, sigmas_S: Tensor, noise: Noise, churn: float = 0.0) -> Tensor:
    """Data from x at the first noise level, by Euler's method of first order; ``churn`` adds noise at each step."""
    steps = len(sigmas_S) - 1
    for step in range(steps):
        x_B, sigma = _churned(x_B, sigmas_S[step], steps, lambda step=step: noise(step), churn)
        x_B = x_B + (sigmas_S[step + 1] - sigma) * (x_B - denoise(x_B, sigma)) / sigma
    return x_B


def heun(denoise: Denoise, x_B: Tensor, sigmas_S: Tensor, noise: Noise, churn: float = 0.0) -> Tensor:
    """Data by Heun's method of second order, two denoisings a step but the last (algorithms 1 and 2)."""
    steps = len(sigmas_S) - 1
    for step in range(steps):
        x_B, sigma = _churned(x_B, sigmas_S[step], steps, lambda step=step: noise(step), churn)
        following = sigmas_S[step + 1]
        slope_B = (x_B - denoise(x_B, sigma)) / sigma
        next_B = x_B + (following - sigma) * slope_B
        if step < steps - 1:
            slope_B = (slope_B + (next_B - denoise(next_B, following)) / following) / 2
            next_B = x_B + (following - sigma) * slope_B
        x_B = next_B
    return x_B


def ddim(denoise: Denoise, x_B: Tensor, sigmas_S: Tensor, noise: Noise, eta: float = 0.0) -> Tensor:
    """Data by DDIM (Song et al. 2021, arXiv:2010.02502, equation 12 in units where x0 keeps its scale).

    With eta 0 it is Euler's method in sigma; with eta 1 each step draws from q(x_next | x, x0), as DDPM does.
    """
    for step in range(len(sigmas_S) - 1):
        sigma, following = sigmas_S[step], sigmas_S[step + 1]
        x0_B = denoise(x_B, sigma)
        fresh = eta * following * (1 - (following / sigma) ** 2).sqrt()
        x_B = x0_B + (following**2 - fresh**2).sqrt() * (x_B - x0_B) / sigma
        if fresh > 0:
            x_B = x_B + fresh * noise(step)
    return x_B


def ancestral(denoise: Denoise, x_B: Tensor, sigmas_S: Tensor, noise: Noise) -> Tensor:
    """Data by ancestral sampling (Ho et al. 2020, arXiv:2006.11239): DDIM with eta 1."""
    return ddim(denoise, x_B, sigmas_S, noise, eta=1.0)
