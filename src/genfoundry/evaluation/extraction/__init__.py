"""Stage extract: features of samples, log-likelihoods of held-out documents.

Door: documents, embedding, extract, spread.
"""
