"""`python -m benchmarks`: run all benchmarks, or the named one."""

from __future__ import annotations

import argparse
import sys

from benchmarks import bench
from benchmarks.dagger import compare as dagger
from benchmarks.dagger import normalisation, showcase
from benchmarks.learn import cli as learn
from benchmarks.learning import compare as learning
from benchmarks.learning import exporters, history_ratio, outliers
from benchmarks.lib.child_process import RunError
from benchmarks.online import presets as online_presets
from benchmarks.online import scores as online_scores
from benchmarks.online import throughput as online
from benchmarks.tracks import measure as tracks

DESCRIPTION = """\
Benchmarks of Hotlap. Without NAME, all but the last twelve run, in about seven minutes. The output is
tables on stdout, progress on stderr, a JSON file, and with --write-docs the tables in docs/lab/performance.md.
"""
EPILOG = """\
`python -m benchmarks NAME --help` describes a benchmark.
Exit codes: 0 all limits are met, 1 a limit is not met or a part failed, 2 bad arguments.
"""


def build_parser() -> argparse.ArgumentParser:
    """Return a parser with one subcommand for each benchmark."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bench.add_flags_of_all(parser)
    commands = parser.add_subparsers(metavar="NAME", title="benchmarks")
    bench.add_to(commands)
    of_files = (learn, learning, history_ratio, exporters, outliers, tracks)
    for module in (*of_files, dagger, normalisation, showcase, online, online_scores, online_presets):
        module.add_to(commands)
    parser.set_defaults(run=lambda arguments: bench.run_all(arguments, parser.parse_args))
    return parser


def main() -> int:
    """Run the benchmarks; return 0 only if all limits are met."""
    arguments = build_parser().parse_args()
    try:
        return int(arguments.run(arguments))
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("stopped\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
