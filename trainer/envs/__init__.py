"""Worlds to learn in. Importing one never imports torch."""
