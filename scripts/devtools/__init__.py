"""The parts of scripts/dev.py. Standard library only; Python 3.7 can read them."""
