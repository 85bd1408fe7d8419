"""TD3's gradient steps, compared with Stable-Baselines3's TD3 and with the matrix products alone.

Artificial transitions of the racing game's shape: 15 observations, 3 actions, batches of 128, a policy of two layers of
128. Stable-Baselines3's critics have two layers of 256, as its users have them, and in a second run Hotlap's sizes.
CPU seconds of one thread, so that other programs on the machine count less.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from benchmarks.lib.measurement import Claim, Figure, Section, Sense, ratio_claim
from benchmarks.lib.progress import PrintProgress

if TYPE_CHECKING:
    import torch

NAME = "off-policy"
HELP = "TD3's gradient steps, compared with Stable-Baselines3 and the matrix products alone"
MIN_TIMES_SB3, MAX_TIMES_PRODUCTS = 3.0, 1.6
_TRANSITIONS = 20_000
_OBSERVATIONS, _POLICY_SIZES, _SB3_CRITIC_SIZES = 15, (128, 128), (256, 256)
_Steps = Callable[[int], object]


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add this benchmark's flags."""
    p.add_argument("--rounds", type=int, default=7, metavar="N", help="rounds of all contenders (7)")
    p.add_argument("--steps", type=int, default=150, metavar="N", help="gradient steps in a round (150)")


def measure(arguments: argparse.Namespace, print_progress: PrintProgress) -> Section:
    """Run all contenders alternately, round after round."""
    import torch

    from schemas.settings.models import TrainerSettings
    from trainer.common import threads

    threads.limit_numpy_to_one_thread()
    torch.set_num_threads(1)
    sizes = TrainerSettings().critic_sizes
    names = f"critics of {' x '.join(map(str, sizes))}"
    large = f"critics of {' x '.join(map(str, _SB3_CRITIC_SIZES))}"
    contenders: dict[str, _Steps] = {
        f"Hotlap, {names}": _hotlap(sizes),
        f"matrix products, {names}": _products(sizes),
        f"Stable-Baselines3, {large}": _sb3(_SB3_CRITIC_SIZES),
        f"Stable-Baselines3, {names}": _sb3(sizes),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for k in range(-1, arguments.rounds):
        for name, take_steps in contenders.items():
            started_s = time.process_time()
            take_steps(arguments.steps)
            if k >= 0:  # the first round loads kernels
                times[name].append(1e3 * (time.process_time() - started_s) / arguments.steps)
        print_progress(f"round {k + 1} of {arguments.rounds}")
    ours, products, *_ = figures = [Figure(name, "ms", tuple(values)) for name, values in times.items()]
    claims: list[Claim] = [
        ratio_claim(f"TD3's step with {names}, times the products' time", Sense.AT_MOST, MAX_TIMES_PRODUCTS,
                    ours.values, products.values),
        ratio_claim(f"TD3's step, times the speed of Stable-Baselines3 with {large}", Sense.AT_LEAST, MIN_TIMES_SB3,
                    figures[2].values, ours.values),
    ]  # fmt: skip
    notes = (
        "CPU milliseconds of a gradient step, of which each second one also improves the policy;",
        f"{arguments.rounds} rounds of {arguments.steps} steps, one thread.",
    )
    return Section(NAME, "TD3's gradient steps", tuple(figures), tuple(claims), notes=notes)


def _hotlap(critic_sizes: tuple[int, ...]) -> _Steps:
    import torch

    from schemas.contract import ContinuousActions, PolicyContract
    from trainer.networks.network import ActorCritic, Shape
    from trainer.off_policy.replay import Replay
    from trainer.off_policy.state import CriticsState
    from trainer.off_policy.td3 import Td3Updater

    space = ContinuousActions.named(("steer", "throttle", "brake"))
    contract = PolicyContract(observation_size=_OBSERVATIONS, action_space=space)
    inputs = _OBSERVATIONS + len(space.names)
    state = CriticsState.initial((inputs, *critic_sizes, 1), seed=0)
    network = ActorCritic(Shape.of(contract, _POLICY_SIZES))
    updater = Td3Updater(network, state, space, device=torch.device("cpu"))
    n = _TRANSITIONS
    replay = Replay(
        packed_PI=torch.randn(n, inputs),
        choice_P=torch.zeros(n, dtype=torch.int64),
        row_N=torch.arange(n - 1),
        next_row_N=torch.arange(1, n),
        reward_N=torch.randn(n - 1),
        discount_N=torch.full((n - 1,), 0.99),
        is_held_out_N=torch.zeros(n - 1, dtype=torch.bool),
    )
    return lambda steps: updater.run(replay, steps, seed=0, cycle=0, epoch=0)


def _products(critic_sizes: tuple[int, ...]) -> _Steps:
    """Return the products of the steps: twin critics and their targets, the policy, and one critic's gradient."""
    import torch

    from trainer.off_policy.update import BATCH_SIZE, POLICY_DELAY

    forward, backward, _ = _layers(2, (_OBSERVATIONS + 3, *critic_sizes, 1), BATCH_SIZE)
    policy_forward, policy_backward, _ = _layers(1, (_OBSERVATIONS, *_POLICY_SIZES, 3), BATCH_SIZE)
    first_forward, _, first_inputs = _layers(1, (_OBSERVATIONS + 3, *critic_sizes, 1), BATCH_SIZE)
    each = [*policy_forward, *forward, *forward, *backward]  # next action, targets, values, their gradient
    delayed = [*policy_forward, *first_forward, *first_inputs, *policy_backward]

    @torch.no_grad()
    def take_steps(steps: int) -> None:
        for step in range(steps):
            for multiply in each:
                multiply()
            for multiply in delayed if step % POLICY_DELAY == 0 else ():
                multiply()

    return take_steps


def _layers(count: int, sizes: tuple[int, ...], batch: int) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the products of a forward pass, of all parameters' gradients, and of the inputs' gradient."""
    import torch

    def product(a: torch.Tensor, b: torch.Tensor) -> Any:
        out = torch.bmm(a, b)
        return lambda: torch.bmm(a, b, out=out)

    forward, backward, inputs = [], [], []
    for index, (i, o) in enumerate(pairwise(sizes)):
        x, w, dy = torch.randn(count, batch, i), torch.randn(count, i, o), torch.randn(count, batch, o)
        forward.append(product(x, w))
        backward.append(product(x.mT, dy))
        inputs.append(product(dy, w.mT))
        backward += [inputs[-1]] if index else []
    return forward, backward, inputs


def _sb3(critic_sizes: tuple[int, ...]) -> _Steps:
    """Return Stable-Baselines3's `TD3.train` on random transitions."""
    import gymnasium
    import numpy as np
    from stable_baselines3 import TD3
    from stable_baselines3.common.logger import Logger

    from trainer.off_policy.update import BATCH_SIZE, LEARNING_RATE

    class Spaces(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (_OBSERVATIONS,), np.float32)
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)

    learner = TD3(
        "MlpPolicy", Spaces(), batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, device="cpu", seed=0,
        buffer_size=_TRANSITIONS, policy_kwargs={"net_arch": {"pi": list(_POLICY_SIZES), "qf": list(critic_sizes)}},
    )  # fmt: skip
    learner.set_logger(Logger(folder=None, output_formats=[]))
    rng, buffer = np.random.default_rng(0), learner.replay_buffer
    assert buffer is not None
    for _ in range(_TRANSITIONS):
        observation, following = rng.standard_normal((2, 1, _OBSERVATIONS), dtype=np.float32)
        action, reward = rng.uniform(-1.0, 1.0, (1, 3)), rng.standard_normal(1)
        buffer.add(observation, following, action, reward, np.zeros(1), [{}])
    return lambda steps: learner.train(gradient_steps=steps, batch_size=BATCH_SIZE)
