"""One verb per task: demo, test, lint, ... `python scripts/dev.py --help` explains them.

Each verb creates `.venv` in the checkout if it is missing, installs what the verb needs at the versions pinned in
constraints.txt, and runs. Two verbs use environments of their own beside it. A stamp records what is installed, so the
next run starts at once. Standard library only, the same on Linux, macOS and Windows. Python 3.7 can run the code, so
that an old Python prints that it is too old.
"""

from __future__ import annotations

import argparse
import difflib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.devtools.checkout import Checkout, SetupError, check_python
from scripts.devtools.install import ensure_venv
from scripts.devtools.oldest_torch import run_with_oldest_torch
from scripts.devtools.pip_output import explain_failure
from scripts.devtools.processes import run
from scripts.devtools.pythons import run_with_all_pythons

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[1]
LINT_IMPORTS = ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-logo'])"]


class Verb(NamedTuple):
    """A verb: what it installs and runs."""

    commands: Callable[[argparse.Namespace, list[str]], list[list[str]]]  #: arguments after the venv's python
    extras: tuple[str, ...]
    passes_arguments: bool  #: whether other arguments are passed on
    help: str
    epilog: str
    start: Callable[[Path, list[str]], int] | None = None  #: runs instead of the commands, without .venv


def no_commands(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Return nothing to run after the installation."""
    return []


def demo(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Start the daemon with a simulated engine, in a new folder unless `--project` names one."""
    command = ["-m", "daemon", "--demo", "--cycles", "12"]
    if not any(word.partition("=")[0] == "--project" for word in rest):
        folder = Path("demo") / time.strftime("run_%Y%m%d_%H%M%S")
        (args.root / folder).mkdir(parents=True, exist_ok=True)
        command += ["--project", folder.as_posix()]
    return [[*command, *rest]]


def test(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Start pytest, with the slow tests only if `--all` is set."""
    return [["-m", "pytest", *([] if args.all else ["-m", "not slow"]), *rest]]


def lint(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Check style, layout, types and imports, the fastest check first."""
    style, layout = (["--fix"], []) if args.fix else ([], ["--check"])
    generated = ["-m", "schemas.generate", *layout]
    ruff = [["-m", "ruff", "check", *style, "."], ["-m", "ruff", "format", *layout, "."]]
    return [*ruff, ["-m", "mypy"], LINT_IMPORTS, generated]


def bench(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Start the benchmarks."""
    return [["-m", "benchmarks", *rest]]


def docs(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Start the program that runs the code blocks of all pages."""
    return [["-m", "scripts.devtools.run_docs", *rest]]


def windows(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Start the tests, or any other program, on Windows Python."""
    return [["-m", "scripts.windows", *rest]]


_WINDOWS = """Needs Debian or Ubuntu on x86-64. Installs Wine with apt if you are root. Other arguments go to pytest:
  python scripts/dev.py windows tests/schemas -x
  python scripts/dev.py windows --short         the part of the suite that CI runs, also without arguments
  python scripts/dev.py windows --setup-only    make the environment in ~/.cache/hotlap-windows; --clean removes it
  python scripts/dev.py windows run -- -m daemon --once    run any program of Python
HOTLAP_WINDOWS_CACHE names another folder. With --optional the exit code is 0 if this machine cannot make it."""
_DEMO = """Twelve cycles, in demo/run_<date>_<time>. Other arguments go to the daemon:
  python scripts/dev.py demo --cycles 30 --no-dashboard"""
_TEST = """Other arguments go to pytest:
  python scripts/dev.py test -x -k gae
  python scripts/dev.py test --all tests/e2e"""
_BENCH = "Takes seven minutes. Other arguments go to `python -m benchmarks`; write -- before its --help."
_DOCS = "Needs git and bash. `--only online` runs one page, `--list` prints what is done with each block."
_SETUP = "pip's own settings (PIP_..., proxies) apply. Delete .venv to start from scratch."
_LINT = "All checks run, even if one fails. --fix also writes the files that schemas.generate makes."
_PYTHONS = """Looks for python3.11 to python3.14 on PATH, for the versions of pyenv, and on Windows for those of the py
launcher. Creates .venv-3.11 and so on, without torch, and runs tests/schemas, tests/daemon and tests/arch in each,
several at the same time. Leaves out the tests marked `torch` or `slow`. Other arguments go to pytest:
  python scripts/dev.py pythons -x -k ledger"""
_OLDEST = """Creates .venv-oldest-torch with the oldest torch in pyproject.toml's range, and runs tests/trainer/ppo,
tests/trainer/networks and tests/trainer/common. If the index has no CPU build of it, one line says so, and nothing is
run: set PIP_EXTRA_INDEX_URL to an index with CPU builds. Other arguments go to pytest."""
VERBS = {
    "demo": Verb(demo, (), True, "train with a simulated engine: no game needed, under five minutes", _DEMO),
    "test": Verb(test, ("dev",), True, "run the tests, with --all the slow ones too", _TEST),
    "setup": Verb(no_commands, ("dev",), False, "create .venv and install what test and lint need", _SETUP),
    "lint": Verb(lint, ("dev",), False, "check style (ruff), types (mypy), imports (import-linter), files", _LINT),
    "docs": Verb(docs, ("dev",), True, "run every command and code block of the pages, as printed", _DOCS),
    "bench": Verb(bench, ("dev", "bench"), True, "run the benchmarks, and compare with stable-baselines3", _BENCH),
    "windows": Verb(windows, (), True, "run the tests on Windows Python, with Wine on Debian", _WINDOWS),
    "pythons": Verb(
        no_commands,
        (),
        True,
        "run the tests that need no torch with every Python",
        _PYTHONS,
        run_with_all_pythons,
    ),
    "oldest-torch": Verb(
        no_commands, (), True, "run the tests of the gradient with the oldest torch", _OLDEST, run_with_oldest_torch
    ),
}


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Return the parsed arguments, and those to pass on. Ends the program if the command line is invalid."""
    parser = argparse.ArgumentParser(
        prog="dev.py",
        description="One verb per task. The first run creates .venv and installs what the verb needs.",
        epilog="New here? `python scripts/dev.py demo` shows what Hotlap does. `VERB --help` explains a verb.",
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    plain = argparse.RawDescriptionHelpFormatter
    for name, verb in VERBS.items():
        sub = verbs.add_parser(name, help=verb.help, epilog=verb.epilog, formatter_class=plain, allow_abbrev=False)
        sub.description = verb.help[0].upper() + verb.help[1:] + "."
        if name == "test":
            sub.add_argument("--all", action="store_true", help="also the tests marked slow")
        if name == "lint":
            sub.add_argument("--fix", action="store_true", help="fix what ruff can fix, and format the code")
    words = list(sys.argv[1:] if argv is None else argv)
    if words and not words[0].startswith("-") and words[0] not in VERBS:
        near = difflib.get_close_matches(words[0], VERBS, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]}? " if near else ""
        parser.error(f"there is not a verb {words[0]}: {meant}The verbs are {', '.join(VERBS)}")
    args, rest = parser.parse_known_args(words)
    rest = rest[1:] if rest[:1] == ["--"] else rest
    if rest and not VERBS[args.verb].passes_arguments:
        parser.error(f"{args.verb} does not know {' '.join(rest)}")
    return args, rest


def run_all(name: str, commands: list[list[str]], checkout: Checkout) -> int:
    """Run all commands, even if one fails; return the first exit code that is not 0."""
    result = 0
    for command in commands:
        began_s = time.monotonic()
        code = run([str(checkout.python), *command], checkout.root)
        result = result or code
        if len(commands) > 1:
            what = "lint-imports" if command is LINT_IMPORTS else " ".join(command[1:])
            print(f"[{name}] {what}: exit {code} after {time.monotonic() - began_s:.0f} s", flush=True)
        if code in {130, 143}:  # stopped by the user
            break
    return result


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run one verb and return the exit code: the program's own, or 1 if it could not be started."""
    args, rest = parse(argv)
    args.root = root
    verb, checkout = VERBS[args.verb], Checkout(root)
    try:
        check_python(sys.version_info[:2])
        if verb.start:
            return verb.start(root, rest)
        ensure_venv(checkout, verb.extras)
        return run_all(args.verb, verb.commands(args, rest), checkout)
    except SetupError as error:
        print(f"[{args.verb}] {error}", file=sys.stderr)
    except OSError as error:
        print(f"[{args.verb}] {explain_failure(str(error), checkout)}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"\n[{args.verb}] stopped; run it again to continue", file=sys.stderr)
        return 130
    return 1


if __name__ == "__main__":
    for console in (sys.stdout, sys.stderr):
        console.reconfigure(errors="replace")  # type: ignore[union-attr]  # a cp1252 console must not stop it
    sys.exit(main())
