"""Learners compared in steps of experience, over environments and seeds, with a store of all runs."""
