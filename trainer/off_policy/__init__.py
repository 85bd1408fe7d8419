"""Off-policy learning from rollouts of any policy: TD3, and its sibling for choices."""
