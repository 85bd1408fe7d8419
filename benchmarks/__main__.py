"""`python -m benchmarks`: all of them, or the one that is named."""

from __future__ import annotations

import argparse
import sys

from benchmarks import idle, intake, learning

BENCHMARKS = {"idle": idle.add_to, "intake": intake.add_to, "learning": learning.add_to}


def build_parser() -> argparse.ArgumentParser:
    """One subcommand for each benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measurements that take minutes and whose numbers stand in the docs. Without a name all run.",
        epilog="`python -m benchmarks NAME --help` says what one measures and how to run a part of it.",
    )
    commands = parser.add_subparsers(metavar="NAME", title="benchmarks")
    for add_to in BENCHMARKS.values():
        add_to(commands)
    return parser


def main() -> int:
    """Run what was asked for; 0 only where all of it went well."""
    parser = build_parser()
    words = sys.argv[1:]
    chosen = [parser.parse_args(words)] if words else [parser.parse_args([name]) for name in BENCHMARKS]
    try:
        return max(int(given.run(given)) for given in chosen)
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
