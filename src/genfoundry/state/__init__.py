"""What outlives a process: journal, locks, events, heartbeat, secrets, worktrees.

Door: checkout, children, events, heartbeat, journal, locks, secrets.
"""
