"""How a stage runs: its arguments, its processes, the proof that it ended.

Door: stage.
"""
