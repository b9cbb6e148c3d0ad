"""Runs, metrics, models and lineage in MLflow; the only home of mlflow.

Door: glance, lineage, publish, recipe, record, registry, registry_lock, removal, reviews, runs, store, tags, trace,
transfer, versions, views.
"""
