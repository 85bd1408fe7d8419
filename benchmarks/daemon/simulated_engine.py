"""How fast the simulated engine plays and writes, compared with the racing environment alone."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.lib.measurement import Figure, Section
from benchmarks.lib.progress import Say
from trainer.envs.racing.simulation import RacingSimulation
from trainer.simulate.engine import Engine
from trainer.simulate.options import SimulationOptions

NAME = "engine"
HELP = "the simulated engine's steps a second, beside the racing world alone"
STEPS = 2048


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add this benchmark's flags."""
    p.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of all measurements (5)")
    p.add_argument("--rollouts", type=int, default=4, metavar="N", help="rollouts of 2048 steps per round (4)")
    p.add_argument("--agents", type=int, nargs="+", default=[16, 128], metavar="N", help="numbers of cars (16 128)")


def measure(given: argparse.Namespace, say: Say) -> Section:
    """Run engine and environment alternately for the same number of steps."""
    figures = []
    for agents in given.agents:
        say(f"{agents} agents, {given.rounds} rounds")
        pairs = [(_engine(agents, given.rollouts), _world(agents, given.rollouts)) for _ in range(given.rounds)]
        engine, world = zip(*pairs, strict=True)
        floor = f"the racing world alone, {agents} agents"
        figures += [
            Figure(f"simulated engine, version 1, {agents} agents", "steps/s", engine, floor),
            Figure(floor, "steps/s", world),
        ]
    notes = ("Steps of all agents together; the engine runs both networks, two layers of 128, and writes rollouts.",)
    return Section(NAME, "The simulated engine", tuple(figures), notes=notes)


def _engine(agents: int, rollouts: int) -> float:
    with tempfile.TemporaryDirectory(prefix="hotlap-engine-") as name:
        options = SimulationOptions(project=Path(name), agents=agents, rollouts=rollouts, own_weights=True, quiet=True)
        engine = Engine(options)
        began = time.perf_counter()
        engine.run()
        return engine.experiences / (time.perf_counter() - began)


def _world(agents: int, rollouts: int) -> float:
    world = RacingSimulation(agents, seed=0)
    rng = np.random.default_rng(0)
    shape = (64, agents, len(world.ACTION_NAMES))
    actions = rng.uniform(world.ACTION_LOW, world.ACTION_HIGH, shape).astype(np.float32)
    steps = rollouts * STEPS // agents
    began = time.perf_counter()
    for k in range(steps):
        world.step(actions[k % len(actions)])
    return steps * agents / (time.perf_counter() - began)
