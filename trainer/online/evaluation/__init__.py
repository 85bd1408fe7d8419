"""Evaluation of the policies of a run, and which of them is the best."""
