"""`python -m trainer`: see `trainer.cli`; `serve` is how the daemon runs it, `online` trains without an engine,
`dagger` makes policies of experts.
"""

from __future__ import annotations

import os
import sys


def main() -> int:
    """Start one of the four."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads spin against a game's, and torch's, for a core
    if sys.argv[1:] == ["serve"]:
        from trainer.worker.serve import serve

        serve()
    if sys.argv[1:2] == ["dagger"]:
        from trainer.dagger.cli import main as dagger

        return dagger(sys.argv[2:])
    if sys.argv[1:2] == ["online"]:
        from trainer.online.cli import main as online

        return online(sys.argv[2:])
    from trainer.cli import main as run

    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
