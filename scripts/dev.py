"""One verb per task: demo, test, setup, lint, bench. `python scripts/dev.py --help` explains them.

Each verb makes `.venv` in the checkout where it is missing, installs what it needs at the versions pinned
in constraints.txt, leaves a stamp so that the next run starts at once, and runs. Standard library only, the
same on Linux, macOS and Windows; readable to Python 3.7, so that an old one gets as far as being told so.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parent.parent
OLDEST, NEWEST = (3, 11), (3, 14)  #: Pythons that every pin has a build for
FIRST_INSTALL_GB = 2.0  #: what a fresh .venv takes with the CPU build of torch, with room to unpack
LINT_IMPORTS = ["-c", "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-logo'])"]

#: A pattern in what pip or venv said, and the line to tell: cause, remedy. The first that fits is told; without
#: a network pip ends with "no matching distribution" too, so that one stands further down.
TROUBLES = {
    r"No space left on device|Errno 28|not enough space on the disk|WinError 112": (
        "no room left for {venv}, or in the temporary folder: free a few GB and run this again"
    ),
    r"ensurepip is not available|No module named '?(?:ensurepip|venv)": (
        "this Python has no venv module: on Debian or Ubuntu `sudo apt install python{python}-venv`, "
        "elsewhere install Python from python.org; then run this again"
    ),
    r"CERTIFICATE_VERIFY_FAILED|SSLCertVerificationError|SSLError": (
        "the package index's certificate is not trusted here: behind a company proxy set PIP_CERT to its certificate"
    ),
    r"name resolution|getaddrinfo|nodename nor|NewConnectionError|Failed to establish|Network is unreachable|ProxyError"
    r"|NameResolutionError|[Tt]imed out|Connection (?:refused|reset|aborted)|RemoteDisconnected|IncompleteRead": (
        "no network, or the package index did not answer: connect (or set HTTPS_PROXY) and run this again"
    ),
    r"Permission denied|Access is denied|WinError (?:5|32)\b|Errno 13": (
        "files in {venv} are in use or not yours: stop what runs from there, or delete that folder; then run this again"
    ),
    r"(?:No matching distribution found for|requested \(constraint\)) (\S+)": (
        "the package index has no {what} for Python {python} on {machine}: take a 64-bit Python 3.11 to 3.14 "
        "(on a Mac: Apple silicon), delete {venv} and run this again; the whole story is in {log}"
    ),
}


class Problem(Exception):
    """Something a person can put right. The message is one line: the cause, then the remedy."""


class Checkout:
    """The checkout and the places in it that this script knows."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.venv = root / ".venv"
        self.python = self.venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        self.config = self.venv / "pyvenv.cfg"
        self.stamp = self.venv / "hotlap-setup.json"
        self.log = self.venv / "hotlap-setup.log"

    def version(self) -> tuple[int, ...]:
        """Python of the venv by its own word, () where it says nothing."""
        text = self.config.read_text(encoding="utf-8", errors="replace") if self.config.exists() else ""
        found = re.search(r"^version(?:_info)?\s*=\s*(\d+)\.(\d+)", text, re.MULTILINE)
        return tuple(map(int, found.groups())) if found else ()

    def pins(self) -> dict[str, str]:
        """Exact versions in constraints.txt, by name as it is written there."""
        lines = (self.root / "constraints.txt").read_text(encoding="utf-8").splitlines()
        return {name: rest.strip() for name, found, rest in (line.partition("==") for line in lines) if found}

    def digest(self) -> str:
        """Hash what decides what is installed: the two lists, the place, the venv's Python."""
        lists = [(self.root / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
        place = f"{self.root}\0{self.version()}".encode("utf-8", "replace")
        return hashlib.sha256(b"\0".join([*lists, place]).replace(b"\r\n", b"\n")).hexdigest()

    def installed(self) -> tuple[str, frozenset[str]]:
        """Digest and extras of the last install that ended well; a damaged stamp counts as none."""
        try:
            stamp = json.loads(self.stamp.read_text(encoding="utf-8"))
            return str(stamp["digest"]), frozenset(map(str, stamp["extras"]))
        except (OSError, ValueError, KeyError, TypeError):
            return "", frozenset()

    def remember(self, extras: frozenset[str]) -> None:
        """Write the stamp, whole or not at all."""
        new = self.stamp.with_name(self.stamp.name + ".new")
        new.write_text(json.dumps({"digest": self.digest(), "extras": sorted(extras)}), encoding="utf-8")
        new.replace(self.stamp)


class SetupProgress:
    """One line that is rewritten on a terminal; a plain line every ten seconds elsewhere."""

    def __init__(self, out: Any = None, now: Callable[[], float] = time.monotonic) -> None:
        self._out, self._now = out or sys.stdout, now
        self._tty = bool(self._out.isatty())
        self._began_s = self._said_s = now()
        self.doing = "starting"

    def tick(self) -> None:
        """Show what is going on, if it is time to."""
        if self._now() - self._said_s >= (0.5 if self._tty else 10.0):
            self.say(self.doing, end="" if self._tty else "\n")

    def say(self, text: str, end: str = "\n") -> None:
        """Show a line now."""
        self.doing, self._said_s = text, self._now()
        line = f"[setup] {text} ... {self._said_s - self._began_s:.0f} s"
        if self._tty:  # the last column stays free: a full line would wrap, and stay on screen
            width = shutil.get_terminal_size().columns - 1
            line = "\r" + line[:width].ljust(width)
        self._out.write(line + end)
        self._out.flush()


def condense(line: str, pins: dict[str, str]) -> str:
    """Say in a few words what a line of pip's is about; "" where it is not worth a word."""
    if line.startswith("Installing collected packages:"):
        return "installing " + headline(line.partition(":")[2].split(","), pins)
    found = re.match(r"\s*(?:Downloading|Using cached|Processing) (?:\S*[/\\])?([\w.]+)-([\w.]+)\S*( \(\d.*\))?", line)
    if found:
        return f"fetching {found[1]} {found[2]}{found[3] or ''}"
    found = re.match(r"Collecting ([\w.-]+)", line)
    return f"looking up {found[1]}" if found else ""


def headline(names: Sequence[str], pins: dict[str, str]) -> str:
    """Name the heaviest package and count the others: torch 2.13.0 and 7 more."""
    known = [name.strip() for name in names if name.strip() not in {"", "hotlap"}]
    if not known:
        return "nothing but hotlap itself"
    first = "torch" if "torch" in known else known[-1]
    return f"{first} {pins.get(first, '')}".strip() + (f" and {len(known) - 1} more" if len(known) > 1 else "")


def explain(output: str, home: Checkout) -> str:
    """Turn what a failed step said into one line: the cause, then the remedy."""
    words = {
        "venv": home.venv,
        "log": home.log,
        "python": ".".join(map(str, home.version() or sys.version_info[:2])),
        "machine": f"{platform.system()} {platform.machine()}",
    }
    for pattern, told in TROUBLES.items():
        found = re.search(pattern, output)
        if found:
            return told.format(**words, what=next(filter(None, found.groups()), ""))
    said = [line.strip() for line in output.splitlines() if line.strip()] or ["it said nothing"]
    worst = [line for line in said if line.lower().startswith("error")] or said
    return f"{worst[-1]} (what pip said, if it got that far: {home.log})"


def check_python(version: Sequence[int], which: Callable[[str], str | None] = shutil.which) -> None:
    """Refuse a Python that is too old, and name one on this machine that is not."""
    if tuple(version[:2]) < OLDEST:
        newer = [f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1) if which(f"python3.{minor}")]
        remedy = f"run this with {newer[0]}" if newer else "install a newer one from python.org, run this with it"
        wanted = ".".join(map(str, OLDEST))
        raise Problem(f"Python {version[0]}.{version[1]} is too old, Hotlap needs {wanted}: {remedy}")


def stream(argv: list[str], cwd: Path, on_line: Callable[[str], None], on_idle: Callable[[], None]) -> int:
    """Run a program, hand over its lines as they come, and call `on_idle` a few times a second meanwhile."""
    env = dict(os.environ, PIP_USER="0", PYTHONUTF8="1", PYTHONUNBUFFERED="1")
    child = subprocess.Popen(argv, cwd=str(cwd), env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        with child:  # closes the pipe at its end
            for line in child.stdout or ():
                lines.put(line)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        while reader.is_alive() or not lines.empty():
            on_idle()
            with contextlib.suppress(queue.Empty):
                on_line(lines.get(timeout=0.25).decode("utf-8", "replace").rstrip())
        return child.wait()
    except BaseException:  # Ctrl-C: leave nothing behind that still writes into .venv
        child.terminate()
        reader.join(timeout=10)
        raise


def step(home: Checkout, argv: list[str], progress: SetupProgress) -> list[str]:
    """Run one step of the setup and give its lines. Raises Problem where it fails."""
    pins = home.pins()
    lines: list[str] = []

    def on_line(line: str) -> None:
        lines.append(line)
        progress.doing = condense(line, pins) or progress.doing

    code = stream(argv, home.root, on_line, progress.tick)
    if home.venv.is_dir():
        home.log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if code:
        progress.say("stopped")
        raise Problem(explain("\n".join(lines), home))
    return lines


def make_venv(home: Checkout, progress: SetupProgress) -> None:
    """Make `.venv`, or put right one whose Python has gone or that never got its pip."""
    if not home.python.exists():
        free_gb = shutil.disk_usage(str(home.root)).free / 1e9
        if free_gb < FIRST_INSTALL_GB:
            raise Problem(f"{free_gb:.1f} GB free at {home.root}, {FIRST_INSTALL_GB} GB are needed: make room")
        progress.say(f"making .venv with Python {platform.python_version()}")
        broken = ["--clear"] if home.config.exists() else []
        step(home, [sys.executable, "-m", "venv", *broken, str(home.venv)], progress)
    elif subprocess.call([str(home.python), "-c", "import pip"], stderr=subprocess.DEVNULL):
        step(home, [str(home.python), "-m", "ensurepip", "--default-pip"], progress)
    if home.version() and home.version() < OLDEST:
        raise Problem(f"{home.venv} was made with a Python that is too old: delete that folder and run this again")


def install(home: Checkout, extras: frozenset[str], progress: SetupProgress) -> None:
    """Install Hotlap, editable, with these extras at the pins; the stamp is there only if all went well."""
    home.stamp.unlink(missing_ok=True)
    progress.say("installing what constraints.txt pins (the first time takes a few minutes)")
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
    pip = [str(home.python), "-m", "pip", "install", *quiet, "-c", "constraints.txt"]
    # setuptools first and no isolation: so the build, too, runs at a pinned version. rlgym's meshes are for the tests.
    meshes = ["--no-deps", "rlgym-rocket-league"] if "dev" in extras else []
    lines = step(home, [*pip, *meshes, "setuptools"], progress)
    target = "." + (f"[{','.join(sorted(extras))}]" if extras else "")
    lines += step(home, [*pip, "--no-build-isolation", "-e", target], progress)
    home.remember(extras)
    new = [line.partition(":")[2] for line in lines if line.startswith("Installing collected packages:")]
    progress.say(f"ready, installed {headline(','.join(new).split(','), home.pins())}")


def prepare(home: Checkout, extras: Sequence[str]) -> None:
    """See to it that `.venv` has these extras at today's pins. Instant where it has."""
    for name in ("pyproject.toml", "constraints.txt"):
        if not (home.root / name).is_file():
            raise Problem(f"{name} is missing in {home.root}: run this from a whole checkout of Hotlap")
    digest, has = home.installed()
    if not (home.python.exists() and has.issuperset(extras) and digest == home.digest()):
        progress = SetupProgress()
        make_venv(home, progress)
        install(home, has.union(extras), progress)


class Verb(NamedTuple):
    """What one word on the command line needs and starts."""

    commands: Callable[[argparse.Namespace, list[str]], list[list[str]]]  #: arguments after the venv's python
    extras: tuple[str, ...]
    takes_more: bool  #: arguments that are not ours are passed on
    help: str
    epilog: str


def demo(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Start the daemon with a simulated engine, in a folder of its own unless told which."""
    ours = ["-m", "daemon", "--demo", "--cycles", "12"]
    if not any(word.partition("=")[0] == "--project" for word in rest):
        folder = Path("demo") / time.strftime("run_%Y%m%d_%H%M%S")
        (args.root / folder).mkdir(parents=True, exist_ok=True)
        ours += ["--project", folder.as_posix()]
    return [[*ours, *rest]]


def test(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Start pytest, without the slow tests unless asked."""
    return [["-m", "pytest", *([] if args.all else ["-m", "not slow"]), *rest]]


def lint(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Check style, layout, types and the wall between daemon and trainer, the quickest first."""
    style, layout = (["--fix"], []) if args.fix else ([], ["--check"])
    return [["-m", "ruff", "check", *style, "."], ["-m", "ruff", "format", *layout, "."], ["-m", "mypy"], LINT_IMPORTS]


def bench(args: argparse.Namespace, rest: list[str]) -> list[list[str]]:
    """Start the benchmarks."""
    return [["-m", "benchmarks", *rest]]


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
_SETUP = "pip's own settings (PIP_..., proxies) are kept to. Delete .venv to begin anew."
_LINT = "All four checks run, also after one has failed."
VERBS = {
    "demo": Verb(demo, (), True, "train on a simulated engine: no game needed, under five minutes", _DEMO),
    "test": Verb(test, ("dev",), True, "run the tests, with --all the slow ones too", _TEST),
    "setup": Verb(lambda args, rest: [], ("dev",), False, "make .venv, install what test and lint need", _SETUP),
    "lint": Verb(lint, ("dev",), False, "check style (ruff), types (mypy), the wall (import-linter)", _LINT),
    "bench": Verb(bench, ("dev", "bench"), True, "run the benchmarks, stable-baselines3 beside ours", _BENCH),
}
VERBS["windows"] = Verb(windows, (), True, "run the tests on Windows Python, with Wine on Debian", _WINDOWS)


def parse(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """Read the command line: ours, and what is to be passed on. Ends the program where it makes no sense."""
    parser = argparse.ArgumentParser(
        prog="dev.py",
        description="One verb per task. The first run makes .venv and installs what the verb needs.",
        epilog="New here? `python scripts/dev.py demo` shows what Hotlap does. `VERB --help` says more of one.",
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
            sub.add_argument("--fix", action="store_true", help="put right what ruff can, and lay the code out")
    args, rest = parser.parse_known_args(argv)
    rest = rest[1:] if rest[:1] == ["--"] else rest
    if rest and not VERBS[args.verb].takes_more:
        parser.error(f"{args.verb} does not know {' '.join(rest)}")
    return args, rest


def run(argv: list[str], cwd: Path) -> int:
    """Run a program to its end and give its exit code; signals reach it, and we wait for what it makes of them."""
    child: list[subprocess.Popen[bytes]] = []

    def pass_on(signum: int, frame: Any) -> None:
        # A terminal sends Ctrl-C to the child as well; twice could mean "at once" to it.
        from_terminal = signum == signal.SIGINT and sys.stdin is not None and sys.stdin.isatty()
        if child and os.name == "posix" and not from_terminal:
            child[0].send_signal(signum)

    old = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        child.append(subprocess.Popen(argv, cwd=str(cwd)))
        code = child[0].wait()
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
    return 128 - code if code < 0 else code  # killed by signal n is 128 + n, as a shell says it


def run_all(name: str, commands: list[list[str]], home: Checkout) -> int:
    """Run every command, also after one has failed; give the first exit code that is not 0."""
    result = 0
    for command in commands:
        began_s = time.monotonic()
        code = run([str(home.python), *command], home.root)
        result = result or code
        if len(commands) > 1:
            what = "lint-imports" if command is LINT_IMPORTS else " ".join(command[1:])
            print(f"[{name}] {what}: exit {code} after {time.monotonic() - began_s:.0f} s", flush=True)
        if code in {130, 143}:  # stopped by a person
            break
    return result


def main(argv: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Run one verb and give the exit code: the child's own, or 1 where it did not come to that."""
    args, rest = parse(argv)
    args.root = root
    verb, home = VERBS[args.verb], Checkout(root)
    try:
        check_python(sys.version_info[:2])
        prepare(home, verb.extras)
        return run_all(args.verb, verb.commands(args, rest), home)
    except Problem as problem:
        print(f"[{args.verb}] {problem}", file=sys.stderr)
    except OSError as error:
        print(f"[{args.verb}] {explain(str(error), home)}", file=sys.stderr)
    except KeyboardInterrupt:
        print(f"\n[{args.verb}] stopped; run it again to go on", file=sys.stderr)
        return 130
    return 1


if __name__ == "__main__":
    for console in (sys.stdout, sys.stderr):
        console.reconfigure(errors="replace")  # type: ignore[union-attr]  # a cp1252 console must not stop us
    sys.exit(main())
