"""Plumbing that moves no result: errors, files, paths, parts, pages, processes.

Door: clock, errors, io, pages, parts, paths, pin, processes, progress, ranks.
"""
