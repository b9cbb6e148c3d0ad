"""Retraining that is safe to leave alone: triggers, schedule, the one command, upkeep (docs/operations.md)."""
