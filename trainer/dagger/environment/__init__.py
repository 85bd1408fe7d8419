"""The user's environment: how it is created, and what its observations, states, frames and milestones mean."""
