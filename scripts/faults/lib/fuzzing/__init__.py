"""What `scripts.faults.fuzz` changes besides rollouts: the ledger, the cache, the folder of models."""
