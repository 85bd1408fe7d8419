"""The parts of scripts/dev.py. Standard library only, readable to Python 3.7."""
