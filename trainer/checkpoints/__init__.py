"""What training writes and reads back: checkpoints, model JSON, the choice of the best epoch."""
