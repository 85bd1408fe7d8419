"""The command line of `hotlap`: its commands, flags and help texts."""

from __future__ import annotations

import argparse
from pathlib import Path

from daemon.errors import DaemonError
from schemas.program.parser import CommandParser, usage_name

EPILOG = """\
examples:
  {prog} --project C:/MyGame          train after every 10 rollouts, until Ctrl-C; then start Play Mode
  {prog} --demo                       the same with a simulated engine: no game needed
  {prog} --once --project C:/MyGame   one cycle on the rollouts in Exports
  {prog} status --json                what runs now, for scripts
  {prog} publish --epoch 3 --cycle 7  publish an older model again
  {prog} adopt model_epoch_7.json     continue from a model that was trained elsewhere
  {prog} online --env CartPole-v1     train in a Gymnasium environment, without an engine

Settings come from daemon.toml in the project folder, then HOTLAP_... variables, then flags.
Exit codes: 0 done, 1 the cycle failed, 2 bad arguments or config, 3 nothing to train on, 4 another daemon runs.
"""
AGAIN = "train even if no rollout is new, on those that were used already"
TRAINER_COMMANDS = {
    "train": "train once on a folder of rollouts, without a daemon",
    "online": "train in environments that run in the trainer's process",
    "dagger": "train policies from scripted experts",
    "clone": "train a policy from recorded play",
    "simulate": "run a simulated engine: it loads models and writes rollouts",
    "find-best": "rank a folder's checkpoints",
    "export-best": "export a folder's best checkpoint",
    "export": "convert one checkpoint to model JSON",
}
"""The trainer's commands and their help; all arguments after one of them are passed to the trainer."""
_START_FLAGS = {
    "once": "--once",
    "demo": "--demo",
    "again": "--again",
    "cycles": "--cycles",
    "after_n_rollouts": "--after-n-rollouts",
    "epochs": "--epochs",
    "device": "--device",
    "seed": "--seed",
    "allow_shared": "--allow-shared",
    "no_dashboard": "--no-dashboard",
}
_USES_ALLOW_SHARED = frozenset({"publish", "adopt", "doctor", "trust"})


def build_parser() -> CommandParser:
    """Return the parser of all commands."""
    prog = usage_name("daemon")
    common = _common_flags()
    parser = CommandParser(
        prog=prog,
        parents=[common],
        usage=f"{prog} [FLAG ...] [COMMAND ...]",
        description="Trains a game's agents while the game runs: rollouts in, models out, in Saved/Training.",
        epilog=EPILOG.format(prog=prog),
    )
    _add_start_flags(parser)
    commands = parser.add_subparsers(
        dest="command",
        prog=prog,
        metavar="COMMAND",
        title="commands",
        description="Without one: watch and train until stopped.",
    )
    for name, text in (
        ("status", "show what runs now"),
        ("history", "show what each cycle did"),
        ("doctor", "show what is wrong here, and what to do about it"),
    ):
        sub = commands.add_parser(name, parents=[common], help=text, description=f"{text[0].upper()}{text[1:]}.")
        sub.add_argument("--json", action="store_true", help="for scripts")
    trigger = commands.add_parser("trigger", parents=[common], help="train now; also retries a parked cycle")
    trigger.add_argument("--again", dest="trigger_again", action="store_true", help=AGAIN)
    commands.add_parser("pause", parents=[common], help="start no more cycles; rollouts are still counted")
    commands.add_parser("resume", parents=[common], help="start cycles again")
    publish = commands.add_parser("publish", parents=[common], help="publish a model, for example an earlier epoch")
    publish.add_argument("--epoch", type=int, required=True, metavar="K", help="which epoch")
    publish.add_argument("--cycle", type=int, metavar="C", help="of which cycle (default: the last)")
    adopt = commands.add_parser(
        "adopt", parents=[common], help="continue from a trained model: publish it as the next version"
    )
    adopt.add_argument("file", metavar="FILE", type=Path, help="a model JSON or a checkpoint (.pt, .pth)")
    adopt.add_argument("--dry-run", action="store_true", help="only check the file and show what would happen")
    adopt.add_argument(
        "--log-std",
        choices=("auto", "natural", "log-of-log"),
        default="auto",
        help="how action_log_std of a model JSON is read (auto: recognise the files of the public Unreal scripts)",
    )
    trust = commands.add_parser(
        "trust", parents=[common], help="approve what daemon.toml runs: a Python, a script, a network, a loss"
    )
    action = trust.add_mutually_exclusive_group()
    action.add_argument("--show", action="store_true", help="only show what it is, and whether it is approved")
    action.add_argument("--revoke", action="store_true", help="withdraw the approval")
    _add_conformance(commands, prog)
    docs = commands.add_parser("docs", help="print a page of the documentation")
    docs.add_argument("page", nargs="?", metavar="PAGE", help="for example formats; without it, list the pages")
    explain = commands.add_parser("explain", help="print what a code such as E_CONFIG means, and what to do")
    explain.add_argument("code", nargs="?", metavar="CODE", help="without it, list the codes")
    for name, text in TRAINER_COMMANDS.items():
        commands.add_parser(name, help=text, add_help=False)
    return parser


def _add_conformance(commands: argparse._SubParsersAction[CommandParser], prog: str) -> None:
    sub = commands.add_parser(
        "conformance",
        parents=[_common_flags()],
        help="test a game client: play the daemon's part against it",
        usage=f"{prog} conformance [--project DIR] [--timeout S] -- COMMAND",
    )
    sub.add_argument(
        "--timeout", type=_seconds, default=60.0, metavar="S", help="how long a client may take for a rollout (60)"
    )
    sub.add_argument(
        "client", nargs="+", metavar="COMMAND", help="starts the client; {project} in it is replaced by its folder"
    )


def _common_flags() -> CommandParser:
    common = CommandParser(add_help=False)
    common.add_argument(
        "--project",
        type=_folder,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help="the game's folder (default: the current one)",
    )
    common.add_argument(
        "--config",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="settings file (default: daemon.toml in the project)",
    )
    return common


def _add_start_flags(parser: argparse.ArgumentParser) -> None:
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--once", action="store_true", help="run one cycle on the rollouts present now, then exit")
    mode.add_argument("--demo", action="store_true", help="train with a simulated engine; no game needed")
    parser.add_argument("--again", action="store_true", help=f"with --once: {AGAIN}")
    parser.add_argument("--cycles", type=_positive, metavar="N", help="with --demo: stop after N cycles with a summary")
    parser.add_argument("--after-n-rollouts", type=int, metavar="N", help="start a cycle after N new rollouts (10)")
    parser.add_argument("--epochs", type=int, metavar="N", help="epochs of a cycle (10)")
    parser.add_argument("--device", metavar="NAME", help="auto, cpu, cuda or cuda:1")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of all random numbers (0)")
    parser.add_argument(
        "--allow-shared",
        action="store_true",
        default=None,
        help="work in a folder that other users can write or own; all of them are trusted then",
    )
    parser.add_argument("--no-dashboard", action="store_true", help="plain log lines, also on a terminal")


def _folder(text: str) -> Path:
    if not text.strip():  # for example from an empty variable of a script
        raise argparse.ArgumentTypeError("the folder's name is empty")
    return Path(text)


def _seconds(text: str) -> float:
    number = float(text)
    if not 0.0 < number < 1e6:
        raise argparse.ArgumentTypeError("must be a positive number")
    return number


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def check_combination(options: argparse.Namespace) -> None:
    """Raise DaemonError (E_USAGE) if a flag has no effect on the command; the message names both."""
    command, used = options.command, [flag for name, flag in _START_FLAGS.items() if getattr(options, name)]
    if command is None:
        if options.cycles is not None and not options.demo:
            raise DaemonError("--cycles is only for --demo", hint="`hotlap --demo --cycles 12`", code="E_USAGE")
        if options.again and not options.once:
            raise DaemonError("--again is only for --once", hint="`hotlap --once --again`", code="E_USAGE")
        return
    if command in TRAINER_COMMANDS:
        raise DaemonError(
            f"flags of {command} go after the word {command}", hint=f"see `hotlap {command} --help`", code="E_USAGE"
        )
    ignored = [flag for flag in used if flag != "--allow-shared" or command not in _USES_ALLOW_SHARED]
    if ignored:
        raise DaemonError(
            f"{ignored[0]} and {command} cannot be used together",
            hint=f"leave one of them out: `hotlap {command}`, or `hotlap {ignored[0]}`",
            code="E_USAGE",
        )
