"""Stage encode: clean records in use become arrays.

Door: pinned.
"""
