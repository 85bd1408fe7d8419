"""The output of models: publish, pointer file, retention, and recovery of the ledger."""
