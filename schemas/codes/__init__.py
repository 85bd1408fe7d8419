"""The tables of all stable codes: what each means and what to do about it."""
