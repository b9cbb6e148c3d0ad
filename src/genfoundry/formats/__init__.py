"""How the files of a base are written: one file each (docs/adding-a-part.md)."""
