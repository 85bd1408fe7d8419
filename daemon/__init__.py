"""The service beside the engine: watch, count, run the trainer, publish, show. Never imports torch or the trainer."""
