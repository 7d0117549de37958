"""Diffusion itself: noising, latents, conditions, denoising errors."""
