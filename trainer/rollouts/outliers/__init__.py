"""Numbers that are far outside the usual range of their column: found, limited while training, and reported."""
