"""Stage split: the final splits, checked for leaks between training and evaluation."""
