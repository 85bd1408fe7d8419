"""How well agents that share an index are detected and separated, in many games."""
