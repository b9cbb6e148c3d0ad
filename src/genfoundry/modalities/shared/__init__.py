"""Helpers of the modalities: tables, files, shingles, descriptors."""
