"""Reads a file from Exports on another thread or in another process, and compares it with earlier ones."""
