"""`hotlap clone`: a policy from recorded play, without an expert and without an environment."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence
from pathlib import Path

from schemas.errors import ConfigError
from schemas.program.parser import CommandParser
from schemas.settings.loading import load_settings
from schemas.storage.files import write_atomic
from schemas.storage.set_aside import has_marker
from schemas.storage.windows_paths import shown_path
from trainer.common.exit_codes import failure_of
from trainer.common.reporting.console import ConsoleReporter, print_error

_EPILOG = """\
FOLDER contains rollouts (version 1 or 2) with "source": "human", or is a Minari dataset. [agent] in daemon.toml defines
the order and the bounds of actions, as for the daemon. Exit codes: 0 done, 2 bad arguments, 65 unusable data, 78 bad
settings, 130 stopped. `hotlap dagger --demonstrations FOLDER` continues with an expert; `hotlap adopt FILE` lets a
daemon continue from the model."""


def parser(prog: str) -> CommandParser:
    """Return the command line."""
    p = CommandParser(prog=prog, description="Train a policy that imitates recorded play.", epilog=_EPILOG)
    p.add_argument("--demonstrations", type=Path, required=True, metavar="FOLDER", help="the recorded play")
    p.add_argument(
        "--out",
        type=Path,
        default=Path("cloned_model.json"),
        metavar="FILE",
        help="the model JSON (default: cloned_model.json); for images a checkpoint, .pth",
    )
    p.add_argument("--steps", type=int, default=5000, metavar="N", help="gradient steps (5000)")
    p.add_argument("--batch-size", type=int, default=64, metavar="N", help="labels in a gradient step (64)")
    p.add_argument("--learning-rate", type=float, default=3e-4, metavar="X", help="Adam's step size (3e-4)")
    p.add_argument("--hidden-dim", type=int, metavar="N", help="width of both hidden layers (default: hidden_sizes)")
    p.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all random numbers (0)")
    p.add_argument("--config", type=Path, metavar="FILE", help="a daemon.toml (default: that of the current folder)")
    return p


def main(argv: Sequence[str], *, prog: str = "hotlap clone") -> int:
    """Run the command line and return the exit code."""
    arguments = parser(prog).parse_args(argv)
    try:
        _run(arguments)
    except KeyboardInterrupt:
        print_error("stopped; no model was written")
        return 130
    except Exception as error:  # noqa: BLE001
        code, failure = failure_of(error)
        print_error(f"error: {failure.message}")
        return int(code)
    return 0


def _run(arguments: argparse.Namespace) -> None:
    from trainer.common import threads
    from trainer.dagger.demonstrations.clone import CloneSettings, clone

    for flag in ("steps", "batch_size", "learning_rate", "hidden_dim"):
        value = getattr(arguments, flag)
        if value is not None and not value > 0:
            raise ConfigError(f"--{flag.replace('_', '-')} is {value}, but must be above 0", hint="see --help")
    agent = load_settings(Path.cwd(), config=arguments.config).agent
    hidden = arguments.hidden_dim or agent.hidden_sizes[0]
    settings = CloneSettings(
        arguments.steps, arguments.batch_size, arguments.learning_rate, hidden, max(0, arguments.seed)
    )
    _require_free(arguments.out)
    threads.set_thread_count(1)
    cloned = clone(arguments.demonstrations, agent, settings)
    out = arguments.out.with_suffix(cloned.suffix)
    _require_free(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, cloned.model)
    reporter = ConsoleReporter()
    for note in cloned.notes:
        reporter.line(note)
    result = f"{cloned.labels:,} labels, loss {cloned.loss:.3f}"
    if not math.isnan(cloned.agreement):
        result += f", on {cloned.held_out:,} other steps {cloned.in_words()}"
    reporter.line(f"{result}; written to {shown_path(out)}")


def _require_free(path: Path) -> None:
    """Raise ConfigError if the file exists and is not a model of Hotlap, which may be replaced."""
    if os.path.lexists(path) and path.suffix != ".pth" and not (path.is_file() and has_marker(path)):
        raise ConfigError(f"{shown_path(path)} exists and is not a model of Hotlap", hint="use another --out")
