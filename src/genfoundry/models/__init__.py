"""Model families, one file each; loaded by name."""
