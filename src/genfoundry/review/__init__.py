"""Blind judgements by people.

Door: answers, page, plan, report, results, serve.
"""
