"""Whether a scheduled retrain has a reason.

Door: ask, learnt.
"""
