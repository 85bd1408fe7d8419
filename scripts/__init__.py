"""Commands of a checkout: entry points under the names users type, dev.py, and fault tools. Not in the wheel."""
