"""The output of training: checkpoints, model JSON, the choice of the best epoch."""
