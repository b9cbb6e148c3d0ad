"""Search for near-duplicates: joins of sets and of vectors, fingerprints, which record is kept.

Door: alignment, descriptor, fingerprints, keepers, pairs, setjoin, setstore, vectorjoin.
"""
