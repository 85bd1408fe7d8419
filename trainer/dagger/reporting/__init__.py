"""The output of a run: console, report.html, Weights & Biases."""
