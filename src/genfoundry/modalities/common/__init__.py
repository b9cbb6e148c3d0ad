"""What several modalities share.

Door: archives, contract, documents, exhibits, grids, layout, lookup, masking, media, streams, tables, textfiles,
tokens, values.
"""
