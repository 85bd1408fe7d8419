"""What users are told about the files in Exports."""
