"""Diagnosis of a project: doctor, invariant checks, status and history reports."""
