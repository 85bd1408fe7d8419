"""The short part of the suite for Windows Python: what CI runs there. A new place is added here and nowhere else."""

#: Arguments of pytest, from the root of the checkout.
SHORT = ("tests/schemas",)
