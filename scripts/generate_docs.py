"""Write everything in the checkout that is generated from the code: `python scripts/generate_docs.py [--check]`.

It runs `python -m schemas.generate`. Then it writes the tables that need the daemon or the trainer: the settings of
online training and of DAgger, and the options of all commands.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from daemon.arguments import build_parser
from schemas import generate
from schemas.doc_tables import markdown_table, plain_settings_table
from trainer import train_cli
from trainer.common.shipped_files import shipped_configs
from trainer.dagger import cli as dagger_cli
from trainer.dagger.demonstrations import cli as clone_cli
from trainer.dagger.settings import DaggerSettings
from trainer.online import arguments as online_arguments
from trainer.online.config import OnlineSettings, read_config
from trainer.online.presets.table import PRESETS
from trainer.simulate import cli as simulate_cli

SETTINGS_PAGE = "docs/reference/settings.md"
COMMANDS_PAGE = "docs/reference/command-line.md"
_COMMON = ("project", "config")
"""Options of all the daemon's commands."""
_EVERYWHERE = ("help", "version")
"""Options of all parsers."""


def blocks() -> dict[str, dict[str, str]]:
    """Return the generated blocks of pages, as `schemas.generate.blocks` does."""
    daemon = build_parser()
    return {
        SETTINGS_PAGE: {
            "online settings": plain_settings_table(OnlineSettings),
            "online presets": presets_table(),
            "dagger settings": plain_settings_table(DaggerSettings),
        },
        COMMANDS_PAGE: {
            "common options": options_table(daemon, only=_COMMON),
            "start options": options_table(daemon, without=_COMMON),
            "command options": command_options_table(daemon),
            "train options": options_table(train_cli.parser("hotlap train")),
            "online options": options_table(online_arguments.parser("hotlap online")),
            "dagger options": options_table(dagger_cli.parser("hotlap dagger"), without=DaggerSettings.model_fields),
            "clone options": options_table(clone_cli.parser("hotlap clone")),
            "simulate options": options_table(simulate_cli.parser("hotlap simulate")),
        },
    }


def presets_table() -> str:
    """Return the table of the presets of online training, with the values that differ most."""
    header = (
        "preset", "for", "environments x steps", "minibatch", "epochs", "learning rate", "gamma", "lambda", "entropy",
        "other",
    )  # fmt: skip
    rows = []
    for preset in PRESETS:
        settings = read_config(shipped_configs(".toml")[preset.name])
        train, env = settings.train, settings.env
        other = [f"hidden {list(train.hidden_sizes)}"]
        if train.clip_range != 0.2 or train.clip_range_end is not None:
            other.append(f"clip range {_schedule(train.clip_range, train.clip_range_end)}")
        if train.initial_std != 0.5:
            other.append(f"initial deviation {train.initial_std:g}")
        rows.append(
            (
                f"`{preset.name}`", preset.about, f"{env.num_envs} x {env.n_steps}", str(train.batch_size),
                str(train.epochs), _schedule(train.learning_rate, train.learning_rate_end), f"{train.gamma:g}",
                f"{train.gae_lambda:g}", _schedule(train.entropy_coef, train.entropy_coef_end), ", ".join(other),
            )
        )  # fmt: skip
    return markdown_table(header, rows)


def _schedule(first: float, last: float | None) -> str:
    return f"{first:g}" if last is None or last == first else f"{first:g} to {last:g}"


def options_table(
    parser: argparse.ArgumentParser, *, only: Iterable[str] | None = None, without: Iterable[str] = ()
) -> str:
    """Return the table of a parser's options, all or `only` some, by their names in the code."""
    actions = [
        action
        for action in options_of(parser)
        if action.dest not in set(without) and (only is None or action.dest in set(only))
    ]
    return markdown_table(("option", "meaning"), [_row(action) for action in actions])


def command_options_table(parser: argparse.ArgumentParser) -> str:
    """Return the table of the options that only single commands have."""
    commands: dict[tuple[str, str], list[str]] = {}
    for name, command in commands_of(parser):
        for action in options_of(command):
            if action.dest not in _COMMON:
                commands.setdefault(_row(action), []).append(f"`{name}`")
    return markdown_table(("command", "option", "meaning"), [(", ".join(c), *row) for row, c in commands.items()])


def options_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return a parser's options and positional arguments, without commands, --help and --version."""
    return [
        action
        for action in parser._actions
        if action.dest not in _EVERYWHERE and not isinstance(action, argparse._SubParsersAction)
    ]


def commands_of(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield a parser's commands, each with its parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _row(action: argparse.Action) -> tuple[str, str]:
    value = _value_of(action)
    names = [f"{option} {value}".strip() for option in action.option_strings]
    if not names:
        names = [f"[{value}]" if action.nargs == "?" else value]
    return ", ".join(f"`{name}`" for name in names), (action.help or "").replace("<", "\\<")


def _value_of(action: argparse.Action) -> str:
    if action.nargs == 0:
        return ""
    if action.choices:
        return "|".join(map(str, action.choices))
    name = str(action.metavar or action.dest.upper())
    return f"{name} ..." if action.nargs == "+" else name


def generated_pages() -> dict[Path, str]:
    """Return the pages with the text that they should have, apart from the blocks of `schemas.generate`."""
    pages = {}
    for name, page_blocks in blocks().items():
        path = generate.ROOT / name
        page = path.read_text(encoding="utf-8")
        for block, text in page_blocks.items():
            page = generate.with_block(page, block, text)
        pages[path] = page
    return pages


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files that are out of date; with --check only name them, and return 1 if there are any."""
    parser = argparse.ArgumentParser(prog="python scripts/generate_docs.py", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a file is out of date")
    options = parser.parse_args(arguments)
    code = generate.main(["--check"] if options.check else [])
    for path, text in generated_pages().items():
        if path.read_text(encoding="utf-8") != text:
            sys.stdout.write(f"{path.name} {'is out of date' if options.check else 'written'}\n")
            if options.check:
                code = 1
            else:
                path.write_text(text, encoding="utf-8", newline="\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
