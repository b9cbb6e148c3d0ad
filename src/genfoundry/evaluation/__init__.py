"""Scores of models: reference, extract, evaluate, report.

Door: charts, evidence, funnel, metrics, results, scoring, slices, verdicts.
"""
