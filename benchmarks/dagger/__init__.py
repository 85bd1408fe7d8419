"""DAgger beside cloning and the imitation package."""
