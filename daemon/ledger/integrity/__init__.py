"""Whether a ledger can be trusted: its tables, its rows, and what can be read of a damaged one."""
