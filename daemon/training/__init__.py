"""One cycle's training: build the job, run the trainer, follow its progress, enforce timeouts."""
