"""The environments of the learn benchmark, and how a run in them is recorded."""
