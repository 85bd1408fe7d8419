"""What users see of DAgger: console, HTML report, W&B, video."""
