"""Environments. Importing one does not import torch."""
