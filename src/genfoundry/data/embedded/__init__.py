"""The embedded raw data, made from locked packages without network.

Door: bootstrap, packages.
"""
