"""Kinds of data, one folder each; loaded by name."""
