"""Stage validate: contracts and drift of raw records; the only home of great-expectations.

Door: distances, drift, expectations, validation.
"""
