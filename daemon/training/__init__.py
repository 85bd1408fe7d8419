"""The training of one cycle: build the job, run the trainer, follow its progress, enforce timeouts."""
