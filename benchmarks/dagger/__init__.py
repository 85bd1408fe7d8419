"""DAgger compared with cloning and with the imitation package."""
