"""From rollouts to a training set: load, check, attribute to policies, weight, compute advantages."""
