"""Diffusion: data are drowned in noise step by step, and a network learns the way back."""

from scratch.models.diffusion.model import MLPDenoiser, UNet
from scratch.models.diffusion.noise import SCHEDULES, NoiseSchedule

__all__ = ["SCHEDULES", "MLPDenoiser", "NoiseSchedule", "UNet"]
