"""One file a section of params.yaml: its fields, defaults and meaning.

Door: augment, base, component, dedup, encode, evaluation, execution, ingest, numerics, preprocess, reference,
sampling, split, table, training, validation.
"""
