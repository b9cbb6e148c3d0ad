"""Formats of pretrained models, one file each; loaded by name."""
