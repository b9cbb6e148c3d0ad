"""Training objectives that replace a family's own loss, one file each (docs/adding-a-part.md)."""
