"""Where a model goes out: publish, pointer file, retention, recovery of the ledger."""
