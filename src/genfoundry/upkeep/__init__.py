"""What is kept and what goes: runs, versions, worktrees, DVC's cache.

Door: dvccache, options, sweep.
"""
