"""`python -m trainer`: see `trainer.cli`; `python -m trainer serve` is how the daemon runs it."""

from __future__ import annotations

import sys


def main() -> int:
    """Start one of the two."""
    if sys.argv[1:] == ["serve"]:
        from trainer.serve import serve

        serve()
    from trainer.cli import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
