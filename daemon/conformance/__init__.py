"""`hotlap conformance`: play the daemon's part against any game client, and report what the client does wrong."""
