"""The argument parser of both programs: an error is one line with the nearest word; all parsers have `--version`."""

from __future__ import annotations

import argparse
import difflib
import re
import sys
from collections.abc import Iterable
from typing import Any, NoReturn

from schemas import __version__
from schemas.program.children import PYTHON
from schemas.program.commands import NAME, is_hotlap_script, quoted, usable
from schemas.text import ascii_safe

USAGE_EXIT_CODE = 2
_CHOICE = re.compile(r"argument (?P<argument>[^:]+): invalid choice: '(?P<value>[^']*)'")
_UNKNOWN = "unrecognized arguments: "


def usage_name(module: str, *, from_hotlap: bool | None = None) -> str:
    """Return a program's name for its help: `hotlap` if that command started it, otherwise `python -m MODULE`."""
    is_hotlap = is_hotlap_script(sys.argv[0]) if from_hotlap is None else from_hotlap
    return NAME if is_hotlap else f"python -m {module}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the known word that is most similar to a word; empty if none is similar."""
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
        """Parse the arguments. An unknown argument is an error of the command before it."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            parser = self._parser_of(getattr(options, "command", None))
            if parser.add_help:  # otherwise it represents another program, which parses its own arguments
                parser.error(_UNKNOWN + " ".join(unknown))
        return options

    def _parser_of(self, command: str | None) -> CommandParser:
        commands = [action for action in self._actions if isinstance(action, argparse._SubParsersAction)]
        return next((action.choices[command] for action in commands if command in action.choices), self)

    def error(self, message: str) -> NoReturn:
        """Write one line and exit with code 2."""
        cause, hint = self._explain(message)
        sys.stderr.write(f"hotlap: {ascii_safe(usable(f'{cause} -> {hint} [E_USAGE]'))}\n")
        raise SystemExit(USAGE_EXIT_CODE)

    def _command(self) -> str:
        """Return the command that starts this program; `usable` replaces `hotlap` if necessary."""
        if self.prog.endswith(".py"):
            return f"{quoted(PYTHON)} {quoted(sys.argv[0])}"
        trainer = f"{quoted(PYTHON)} -m trainer"
        return re.sub("^python -m trainer", lambda _: trainer, re.sub("^python -m daemon", NAME, self.prog))

    def _explain(self, message: str) -> tuple[str, str]:
        command = self._command()
        help_command = f"see `{command} --help`"
        if choice := _CHOICE.search(message):
            action = next((a for a in self._actions if a.choices and _is_named(a, choice["argument"])), None)
            choices = [str(each) for each in (action.choices or ())] if action is not None else []
            is_command = isinstance(action, argparse._SubParsersAction)
            close = nearest(choice["value"], choices)
            written = f"`{command} {close}`" if is_command else f"{choice['argument']} {close}"
            value = choice["value"]
            cause = f"the command {value} does not exist" if is_command else f"{choice['argument']} cannot be {value}"
            return cause, f"did you mean {written}?" if close else f"one of: {', '.join(choices)}"
        if message.startswith(_UNKNOWN):
            unknown = message.removeprefix(_UNKNOWN)
            options = [option for action in self._actions for option in action.option_strings]
            close = nearest(unknown.partition(" ")[0].partition("=")[0], options)
            return f"unknown argument {unknown}", f"did you mean {close}?" if close else help_command
        return message, help_command


def _is_named(action: argparse.Action, name: str) -> bool:
    names = {"/".join(action.option_strings), str(action.metavar), action.dest}
    return name in names or isinstance(action, argparse._SubParsersAction)
