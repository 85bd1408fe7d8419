"""`hotlap simulate`: the simulated engine's flags, and the signals and the lifeline that stop it."""

from __future__ import annotations

import argparse
import math
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from schemas.process.lifeline import discard_input, take_stdin
from schemas.program.parser import CommandParser
from schemas.storage.layout import ProjectPaths
from trainer.simulate.engine import Engine
from trainer.simulate.options import SimulationOptions


def main(arguments: Sequence[str], *, prog: str = "simulate_engine.py") -> int:
    """Run one engine until it stops, and return the exit code."""
    p = parser(prog)
    options = vars(p.parse_args(arguments))
    lifeline = options.pop("lifeline")
    if not options["project"].is_dir():
        p.error(f"the project folder {options['project']} does not exist")
    if options["critic_observations"] and options["format"] == "v1":
        p.error("--critic-observations needs --format v2 or v2-base64: version 1 has no such column")
    options["project"] = options["project"].resolve()
    ProjectPaths(options["project"]).leave()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            # A character that the console cannot show must not end the game.
            stream.reconfigure(errors="backslashreplace")
    try:
        engine = Engine(SimulationOptions(**options))
    except ValueError as error:
        p.error(str(error))
    signal.signal(signal.SIGINT, lambda *_: engine.stop())
    if lifeline and hasattr(signal, "SIGBREAK"):
        signal.signal(signal.SIGBREAK, signal.SIG_IGN)  # the console sends it to the parent as well, which decides
    if lifeline:
        threading.Thread(target=_stop_at_end_of_input, args=(engine, take_stdin()), daemon=True).start()
    try:
        engine.run()
        engine.print_line(f"stopped after {engine.rollouts} rollouts, {engine.experiences} steps")
    except BrokenPipeError:  # the reader of stdout has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _stop_at_end_of_input(engine: Engine, descriptor: int) -> None:
    """Stop the engine when its input ends: then the program that started it has ended."""
    discard_input(descriptor)
    engine.stop()


def parser(prog: str) -> CommandParser:
    """Return the command line."""
    p = CommandParser(
        prog=prog,
        description="A simulated engine with a racing game: loads models, drives with them, writes rollouts.",
    )
    p.add_argument(
        "--project", type=Path, default=Path(), metavar="DIR", help="project folder (default: the current one)"
    )
    p.add_argument("--agents", type=_at_least(1), default=16, metavar="N", help="cars on the tracks (16)")
    p.add_argument("--experiences", type=_at_least(1), default=2048, metavar="N", help="steps of a rollout (2048)")
    p.add_argument("--seed", type=_at_least(0), default=0, metavar="N", help="seed of all random numbers (0)")
    p.add_argument("--noise-std", type=_number(0.0), default=1.0, metavar="X", help="factor on the policy's noise (1)")
    p.add_argument("--rollouts", type=_at_least(0), default=0, metavar="N", help="stop after N rollouts (never)")
    p.add_argument("--format", choices=("v1", "v2", "v2-base64"), default="v1", help="rollout format (v1)")
    p.add_argument(
        "--critic-observations",
        action="store_true",
        help="with --format v2 or v2-base64: also write the curvature of the road ahead, which only critics see",
    )
    p.add_argument(
        "--utf16", action="store_true", help="write UTF-16LE with a BOM, as Unreal does if a character is not ASCII"
    )
    p.add_argument(
        "--slow", type=_number(0.0), default=0.0, metavar="S", help="write in place, and take S seconds for a file"
    )
    p.add_argument(
        "--steps-per-second",
        type=_number(0.0),
        default=0.0,
        metavar="X",
        help="at most X steps a second of all agents together (no limit); 16 agents in real time: 160",
    )
    p.add_argument(
        "--pause-while-training",
        type=_at_least(0),
        default=0,
        metavar="N",
        help="after every N rollouts wait for another model, as a game does that pauses while training",
    )
    p.add_argument("--own-weights", action="store_true", help="start with random weights and ignore policy version 0")
    p.add_argument("--nan-every", type=_at_least(0), default=0, metavar="K", help="write a nan in every K-th step")
    p.add_argument("--observation-scale", type=_number(), default=1.0, metavar="X", help="observations times X (1)")
    p.add_argument("--observation-shift", type=_number(), default=0.0, metavar="X", help="observations plus X (0)")
    p.add_argument("--track", type=_at_least(0), metavar="K", help="all agents on track K (any)")
    p.add_argument("--lifeline", action="store_true", help="stop when stdin closes")
    p.add_argument("--quiet", action="store_true", help="do not print a line for each rollout")
    p.add_argument("--json", action="store_true", dest="as_json", help="print one JSON line for each rollout")
    return p


def _at_least(low: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        value = int(text)
        if value < low:
            raise argparse.ArgumentTypeError(f"must be at least {low}, not {value}")
        return value

    return whole_number


def _number(low: float = -math.inf) -> Callable[[str], float]:
    def number(text: str) -> float:
        value = float(text)
        if not (math.isfinite(value) and value >= low):
            raise argparse.ArgumentTypeError(f"must be a number of at least {low:g}, not {text}")
        return value

    return number
