"""One milestone: episodes, labels, the learner, and what is kept of it."""
