"""Scores of models: reference, extract, evaluate, report.

Door: charts, evidence, metrics, results, scoring, slices, verdicts.
"""
