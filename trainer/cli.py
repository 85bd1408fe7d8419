"""`python -m trainer COMMAND`: start the program of a command; without a command, train."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from schemas.process.ending import end_in_order
from schemas.program.parser import USAGE_EXIT_CODE, CommandParser, usage_name
from schemas.program.streams import open_standard_streams
from trainer.programs import PROGRAMS

STOPPED_EXIT_CODE = 130
FROM_HOTLAP = "--from-hotlap"
"""The first argument if the command `hotlap` started this process: the help then uses the name `hotlap`."""


_EPILOG = """\
Without a command the arguments are those of `train`:
  {prog} EXPORT_DIR MODEL_DIR [EPOCHS] [DEVICE]

`{prog} COMMAND --help` describes a command."""


def parser(prog: str) -> CommandParser:
    """Return the parser of the first argument; each program parses the arguments after it."""
    result = CommandParser(prog=prog, description="Hotlap's trainer.", epilog=_EPILOG.format(prog=prog))
    commands = result.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, program in PROGRAMS.items():
        commands.add_parser(name, help=program.help, add_help=False)
    return result


def main(argv: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    open_standard_streams()
    arguments, is_from_hotlap = list(argv), False
    if arguments[:1] == [FROM_HOTLAP]:
        arguments, is_from_hotlap = arguments[1:], True
    prog = usage_name("trainer", from_hotlap=is_from_hotlap)
    if arguments[:1] and arguments[0] in PROGRAMS:
        return _run(arguments[0], arguments[1:], prog)
    if not arguments:
        parser(prog).print_help(sys.stderr)
        return USAGE_EXIT_CODE
    if arguments[0] in {"-h", "--help", "--version"} or _is_word(arguments):
        parser(prog).parse_args(arguments[:1])  # exits: with the help, or because the command does not exist
    return _run("train", arguments, prog)


def _is_word(arguments: Sequence[str]) -> bool:
    """Return whether the first argument is probably a command, and not EXPORT_DIR."""
    word = arguments[0]
    if word.startswith("-") or Path(word).exists():
        return False
    return len(arguments) == 1 or arguments[1].startswith("-")


def run_script(name: str, arguments: Sequence[str]) -> int:
    """Run the program of a command for the file in `scripts` that replaces this command line."""
    open_standard_streams()
    return _run(name, arguments)


def _run(name: str, arguments: Sequence[str], prog: str = "") -> int:
    module, _, function = PROGRAMS[name].function.partition(":")
    try:
        program = getattr(import_module(module), function)
    except ModuleNotFoundError as error:
        from schemas.program.commands import pip_install

        remedy = pip_install((error.name or "").partition(".")[0])
        sys.stderr.write(f"hotlap: {error.name} is not installed -> run `{remedy}` [E_EXTRA]\n")
        return USAGE_EXIT_CODE
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # set by `__main__` while modules are imported
        signal.signal(signal.SIGINT, signal.default_int_handler)
    options = {"prog": f"{prog} {name}"} if prog else {}
    if name == "serve":  # it ends with the daemon
        return int(program(arguments, **options))
    try:
        with end_in_order():
            return int(program(arguments, **options))
    except KeyboardInterrupt:  # before the program could handle it
        return STOPPED_EXIT_CODE


def serve(argv: Sequence[str], *, prog: str) -> int:
    """Run one job that arrives on stdin."""
    description = "Wait for a job (one JSON line on stdin), run it, and write events as JSON lines to stdout."
    p = CommandParser(prog=prog, description=description)
    p.add_argument("--modules-in", metavar="DIR", help="folder to search last for modules that the settings name")
    folder = p.parse_args(argv).modules_in
    if folder is not None:
        sys.path.append(folder)
    from trainer.worker.serve import serve as serve_job

    serve_job()
