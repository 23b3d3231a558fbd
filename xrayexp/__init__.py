"""Adapter fine-tuning of MedGemma on chest X-rays, as reproducible Hydra experiments."""

__version__ = "0.1.0"
