"""The command that a schedule calls, and all that it does while nobody watches.

Door: engine, options, plan, protocol, status.
"""
