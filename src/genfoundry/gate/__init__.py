"""Which of two models is better, by stated rules with a known rate of error.

Door: compare, comparison, looks, rules, subjects.
"""
