"""Shards of records: where they end, who works on them, what is cached.

Door: borders, executor, memo.
"""
