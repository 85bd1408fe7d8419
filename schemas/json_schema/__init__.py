"""The JSON Schemas of the file formats, generated from the code."""
