"""Files above 1 MB are read in parts, so that the objects of a JSON parser never exist for the whole file."""
