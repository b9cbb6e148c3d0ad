"""The real pipeline as the engine drives it: a worktree, child processes, snapshots.

Door: foresight, real, snapshots.
"""
