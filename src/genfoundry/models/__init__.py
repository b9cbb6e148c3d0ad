"""Families of models, one file each; loaded by name."""
