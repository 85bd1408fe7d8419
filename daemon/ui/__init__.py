"""Output of a running daemon for users: dashboard, log, status.json."""
