"""Slots of the schedule, and who waits for them.

Door: attend, cron, deploy, watch.
"""
