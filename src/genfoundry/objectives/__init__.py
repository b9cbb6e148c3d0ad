"""Objectives: what is minimised instead of a family's own loss. One file each (docs/adding-a-part.md)."""
