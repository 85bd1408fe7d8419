"""What users see of a run: console, report.html, Weights & Biases."""
