"""A pipeline for generative models that keeps its evidence."""

__version__ = "0.1.0"
