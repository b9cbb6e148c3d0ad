"""The contract of a model, and layers that families share.

Door: augment, blocks, contract, decoding, dropout, language, normalisation, pixels, rows, samplers.
"""
