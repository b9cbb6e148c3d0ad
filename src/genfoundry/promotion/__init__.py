"""Who is champion: promotion, rollback, servability, model cards.

Door: locks, moves, options, promote, reconcile, rollback.
"""
