"""The command line of `python scripts/dev.py windows`."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scripts.windows.cache import Cache, cache_folder
from scripts.windows.interpreter import PYTHON_VERSION
from scripts.windows.prefix import remove_stale, wine_version
from scripts.windows.program import run_python
from scripts.windows.progress import Progress, SetupError, Unavailable
from scripts.windows.setup import is_complete, make
from scripts.windows.table import make_table

if TYPE_CHECKING:
    from collections.abc import Sequence


ROOT = Path(__file__).resolve().parents[2]
USAGE = (
    "python scripts/dev.py windows [--setup-only | --clean] [--short | --table PAGE] [--optional] "
    "[pytest arguments | run -- ...]"
)
#: The part of the suite that CI runs on Windows Python, as arguments of pytest. Four minutes on two idle cores.
SHORT = (
    "tests/schemas",
    "tests/daemon/ledger",
    "tests/daemon/publishing",
    "tests/daemon/rollouts/test_reader.py",
    "tests/daemon/runtime",
    "tests/daemon/test_cli.py",
    "tests/daemon/training",
    "tests/daemon/ui/test_dashboard.py",
    "tests/daemon/ui/test_log.py",
    "tests/daemon/ui/test_system_stats.py",
    "tests/faults/process/test_daemon_killed.py",
    "--deselect=tests/daemon/training/warm/test_warm_trainer.py",  # these take a minute and a half together
    "--deselect=tests/daemon/ledger/test_migrations.py",
    "--deselect=tests/daemon/publishing/test_foreign_files.py",
)


def parse(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Return our options and the arguments of Windows Python."""
    first = next((place for place, word in enumerate(argv) if not word.startswith("--")), len(argv))
    is_run = list(argv[first : first + 1]) == ["run"]  # not the `run` of `-k run`
    before, program = (list(argv[:first]), list(argv[first + 1 :])) if is_run else (list(argv), [])
    parser = argparse.ArgumentParser(prog="dev.py windows", usage=USAGE, allow_abbrev=False)
    parser.add_argument("--setup-only", action="store_true", help="make the environment, run nothing")
    parser.add_argument("--clean", action="store_true", help="remove the environment first; with --setup-only make it")
    parser.add_argument("--short", action="store_true", help="run the part of the suite that CI runs")
    parser.add_argument("--optional", action="store_true", help="exit with 0 if this machine cannot make it")
    parser.add_argument("--table", metavar="PAGE", type=Path, help="run all folders; write the counts to a page")
    parser.add_argument("--console", action="store_true", help="with run: use this terminal instead of pipes")
    args, rest = parser.parse_known_args(before)
    rest = rest[1:] if rest[:1] == ["--"] else rest
    if is_run:
        program = program[1:] if program[:1] == ["--"] else program
        if not program or rest:
            parser.error("run needs arguments for Python: `windows run -- -m daemon --help`")
        return args, program
    if args.table is not None:
        return args, rest
    marker = [] if any(word == "-m" or word.startswith("-m=") for word in rest) else ["-m", "not slow"]
    names_a_place = any((ROOT / word.partition("::")[0]).exists() for word in rest)
    places = list(SHORT) if args.short or not names_a_place else []
    return args, ["-m", "pytest", "-o", "cache_dir=.pytest_cache/windows", *marker, *places, *rest]


def report(cache: Cache, progress: Progress) -> None:
    """Print size and duration of what was made."""
    total_s = sum(progress.durations_s.values())
    progress.say(f"environment ready: {cache.size_bytes() / 1e9:.1f} GB in {cache.folder}, made in {total_s:.0f} s")


def clean(cache: Cache, progress: Progress) -> None:
    """End the processes of killed runs, and remove the environment."""
    if not cache.folder.is_dir():
        progress.say(f"{cache.folder} does not exist")
        return
    if not (cache.folder / "lock").is_file() and any(cache.folder.iterdir()):
        raise SetupError(f"{cache.folder} was not made by this command: set HOTLAP_WINDOWS_CACHE to another folder")
    with cache.lock(shared=False, progress=progress):
        if cache.runs.is_dir():
            remove_stale(cache)
        shutil.rmtree(cache.folder)
    progress.say(f"removed {cache.folder}")


def run(cache: Cache, root: Path, args: argparse.Namespace, arguments: list[str], progress: Progress) -> int:
    """Make the environment if needed, and run the program in it."""
    if args.clean:
        clean(cache, progress)
        if not args.setup_only:
            return 0
    cache.create()
    while True:
        with cache.lock(shared=True, progress=progress):
            if is_complete(cache, root):
                if progress.durations_s or args.setup_only:
                    report(cache, progress)
                if args.setup_only:
                    return 0
                if args.table is not None:
                    version = f"Python {PYTHON_VERSION} for Windows on {wine_version()}"
                    return make_table(cache, root, args.table.absolute(), arguments, version, progress)
                started_s = time.monotonic()
                code = run_python(cache, arguments, Path.cwd(), console=args.console)
                progress.say(
                    f"python {' '.join(arguments[:3])}: exit {code} after {time.monotonic() - started_s:.0f} s"
                )
                return code
        with cache.lock(shared=False, progress=progress):
            make(cache, root, progress)


def stop(signum: int, frame: Any) -> None:
    """End in order: processes and the run's folder are removed on the way out."""
    for number in (signal.SIGINT, signal.SIGTERM, signum):
        signal.signal(number, signal.SIG_IGN)  # a second one must not interrupt that
    raise KeyboardInterrupt


def main(argv: Sequence[str], root: Path = ROOT) -> int:
    """Run the command and return the exit code: that of Windows Python, 1 after a problem of ours."""
    args, arguments = parse(argv)
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):  # Windows has no SIGHUP, and gets its one line below
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), stop)
    try:
        return run(Cache(cache_folder()), root, args, arguments, Progress())
    except Unavailable as error:
        print(f"[windows] {'skipped: ' if args.optional else ''}{error}", file=sys.stderr, flush=True)
        return 0 if args.optional else 1
    except (SetupError, OSError) as error:
        print(f"[windows] {error}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("[windows] stopped; run it again to continue", file=sys.stderr, flush=True)
        return 130
    return 1
