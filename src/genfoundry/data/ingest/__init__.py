"""Stage ingest: the source becomes shards of records; what can't be read is rejected and counted.

Door: reading.
"""
