"""The argument parser of both programs: an error is one line with the nearest word; `--version` works everywhere."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from schemas import __version__
from schemas.program.commands import NAME, is_hotlap_script, quoted, usable
from schemas.text import ascii_safe

USAGE_EXIT_CODE = 2
_CHOICE = re.compile(r"argument (?P<what>[^:]+): invalid choice: '(?P<given>[^']*)'")
_UNKNOWN = "unrecognized arguments: "


def usage_name(module: str, *, from_hotlap: bool | None = None) -> str:
    """Return what a program's help calls it: `hotlap` if it was started by that command, else `python -m MODULE`."""
    is_hotlap = is_hotlap_script(sys.argv[0]) if from_hotlap is None else from_hotlap
    return NAME if is_hotlap else f"python -m {module}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is most like a word; empty if none is."""
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)), "")


class CommandParser(argparse.ArgumentParser):
    """An argparse parser whose errors are one line: cause, remedy, code."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(*arguments, **options)
        if self.add_help:
            self.add_argument(
                "--version", action="version", version=f"hotlap {__version__}", help="show the version and exit"
            )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse the arguments; one that is unknown is an error of the command that it follows."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = self._chosen(getattr(options, "command", None))
            if parser.add_help:  # without: it stands for another program, which parses its own arguments
                parser.error(_UNKNOWN + " ".join(unknown))
        return options

    def _chosen(self, command: str | None) -> CommandParser:
        commands = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return next((action.choices[command] for action in commands if command in action.choices), self)

    def error(self, message: str) -> NoReturn:
        """Write one line and exit with code 2."""
        cause, hint = self._explained(message)
        sys.stderr.write(f"hotlap: {ascii_safe(usable(f'{cause} -> {hint} [E_USAGE]'))}\n")
        raise SystemExit(USAGE_EXIT_CODE)

    def _command(self) -> str:
        """Return what a user can type to start this program: `usable` knows `hotlap`."""
        if self.prog.endswith(".py"):
            return f"{quoted(sys.executable)} {quoted(sys.argv[0])}"
        trainer = f"{quoted(sys.executable)} -m trainer"
        return re.sub("^python -m trainer", lambda _: trainer, re.sub("^python -m daemon", NAME, self.prog))

    def _explained(self, message: str) -> tuple[str, str]:
        command = self._command()
        help_command = f"see `{command} --help`"
        if choice := _CHOICE.search(message):
            action = next((a for a in self._actions if a.choices and _is_named(a, choice["what"])), None)
            choices = [str(each) for each in (action.choices or ())] if action is not None else []
            is_command = isinstance(action, argparse._SubParsersAction)
            close = nearest(choice["given"], choices)
            written = f"`{command} {close}`" if is_command else f"{choice['what']} {close}"
            what = "there is no command" if is_command else f"{choice['what']} cannot be"
            return f"{what} {choice['given']}", f"did you mean {written}?" if close else f"one of: {', '.join(choices)}"
        if message.startswith(_UNKNOWN):
            given = message.removeprefix(_UNKNOWN)
            options = [option for action in self._actions for option in action.option_strings]
            close = nearest(given.partition(" ")[0].partition("=")[0], options)
            return f"unknown argument {given}", f"did you mean {close}?" if close else help_command
        return message, help_command


def _is_named(action: argparse.Action, name: str) -> bool:
    names = {"/".join(action.option_strings), str(action.metavar), action.dest}
    return name in names or isinstance(action, argparse._SubParsersAction)
