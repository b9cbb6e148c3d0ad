"""One file a section of params.yaml: its fields, defaults and meaning."""
