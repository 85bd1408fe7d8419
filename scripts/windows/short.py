"""The short part of the suite for Windows Python, which CI runs. What CI runs there is listed here and nowhere else."""

#: Arguments of pytest, from the root of the checkout. A minute on two idle cores.
SHORT = (
    "tests/schemas",
    "tests/daemon/ledger",
    "tests/daemon/publishing",
    "tests/daemon/rollouts/test_reader.py",
    "tests/daemon/runtime",
    "tests/daemon/test_cli.py",
    "tests/daemon/ui/test_system_stats.py",
)
