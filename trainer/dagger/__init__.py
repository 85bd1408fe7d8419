"""DAgger for games cut into milestones: an expert for each becomes a policy. Importing this never imports torch."""
