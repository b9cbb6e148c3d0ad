"""params.yaml, dvc.yaml and data specs as typed trees; what a stage's code and data are.

Door: code, conditions, dag, params, pointers, specs.
"""
