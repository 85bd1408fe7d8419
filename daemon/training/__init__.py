"""The training of one cycle: build the job, run the trainer, track its progress, enforce time limits."""
