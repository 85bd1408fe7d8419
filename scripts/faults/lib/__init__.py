"""What the fault commands share: lists, recorders, mutations, plots."""
