"""The speed of the simulated engine, compared with the racing environment alone."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.lib.measurement import Figure, Section
from benchmarks.lib.progress import PrintProgress
from trainer.envs.racing.simulation import RacingSimulation
from trainer.simulate.engine import Engine
from trainer.simulate.options import SimulationOptions

NAME = "engine"
HELP = "the simulated engine's steps per second, compared with the racing environment alone"
STEPS = 2048


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add this benchmark's flags."""
    p.add_argument("--rounds", type=int, default=5, metavar="N", help="rounds of all measurements (5)")
    p.add_argument("--rollouts", type=int, default=4, metavar="N", help="rollouts of 2048 steps per round (4)")
    p.add_argument("--agents", type=int, nargs="+", default=[16, 128], metavar="N", help="numbers of cars (16 128)")


def measure(arguments: argparse.Namespace, print_progress: PrintProgress) -> Section:
    """Run engine and environment alternately for the same number of steps."""
    figures = []
    for agents in arguments.agents:
        print_progress(f"{agents} agents, {arguments.rounds} rounds")
        pairs = [
            (_engine(agents, arguments.rollouts), _simulation(agents, arguments.rollouts))
            for _ in range(arguments.rounds)
        ]
        engine, simulation = zip(*pairs, strict=True)
        floor = f"the racing environment alone, {agents} agents"
        figures += [
            Figure(f"simulated engine, version 1, {agents} agents", "steps/s", engine, floor),
            Figure(floor, "steps/s", simulation),
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


def _simulation(agents: int, rollouts: int) -> float:
    simulation = RacingSimulation(agents, seed=0)
    rng = np.random.default_rng(0)
    shape = (64, agents, len(simulation.ACTION_NAMES))
    actions = rng.uniform(simulation.ACTION_LOW, simulation.ACTION_HIGH, shape).astype(np.float32)
    steps = rollouts * STEPS // agents
    began = time.perf_counter()
    for k in range(steps):
        simulation.step(actions[k % len(actions)])
    return steps * agents / (time.perf_counter() - began)
