"""What users see of a running daemon: dashboard, log, status.json."""
