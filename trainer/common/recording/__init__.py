"""Records of a run that are made as it goes: videos, and numbers in Weights & Biases."""
