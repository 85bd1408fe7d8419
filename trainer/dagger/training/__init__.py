"""One milestone: episodes, labels, the learner, progress, models."""
