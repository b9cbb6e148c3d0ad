"""The training loop; the only home of pytorch-lightning.

Door: reports, setup.
"""
