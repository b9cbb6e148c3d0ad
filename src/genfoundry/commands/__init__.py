"""The commands of `genfoundry`, one file a group.

Door: changed, check, compare, promote, retrain, review, schedule, summary, upkeep.
"""
