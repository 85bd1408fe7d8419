"""What people see of a run: a progress bar on a terminal, ASCII lines in the log, scalars for TensorBoard and wandb."""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from schemas.text import ascii_safe
from trainer.online.evaluate import ReturnStatistics
from trainer.online.reporting.system_stats import SystemStats

_STATES = ("selfplay/stage", "selfplay/elo", "selfplay/win_rate", "train/learning_rate", "train/entropy_coef")
"""Shown as they are now; all else as means over the interval."""
_BUSY = ("system/cpu_percent", "system/gpu_percent", "system/gpu_memory_mb")


class RunConsole:
    """Log lines go to stdout and to train.log; numbers to every board that was given."""

    def __init__(
        self, folder: Path | None, *, total_steps: int, interval_s: float, boards: list[Any], out: TextIO | None = None
    ) -> None:
        self._out = out or sys.stdout
        self._log = (folder / "train.log").open("a", encoding="utf-8") if folder else None
        self._total, self._interval_s, self._boards = total_steps, interval_s, boards
        self._episodes: deque[tuple[float, int]] = deque(maxlen=100)
        self._load = SystemStats()
        self._sums: dict[str, float] = {}
        self._batches = 0
        self._said_s = time.monotonic()
        self._said_steps: int | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if self._out.isatty():
            self._start_bar()

    def _start_bar(self) -> None:
        columns = (
            TextColumn("{task.completed:,.0f}/{task.total:,.0f} steps"),
            BarColumn(),
            TextColumn("{task.fields[speed]} steps/s  reward {task.fields[reward]}"),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=Console(file=self._out), refresh_per_second=4)
        self._task = self._bar.add_task("", total=self._total, speed="-", reward="-")
        self._bar.start()

    def line(self, text: str) -> None:
        """Write one line; never raises on a console of another code page."""
        safe = ascii_safe(text)
        if self._log is not None:
            self._log.write(f"{time.strftime('%H:%M:%S')} {safe}\n")
            self._log.flush()
        if self._bar is not None:
            self._bar.console.print(safe, markup=False, highlight=False)
        else:
            print(safe, file=self._out, flush=True)

    def show_batch(self, steps: int, numbers: dict[str, float], episodes: list[tuple[float, int]]) -> None:
        """Show a batch: the bar at once; the line and the boards, as means over the interval, when that is over."""
        self._episodes.extend(episodes)
        for name, value in numbers.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._batches += 1
        reward = self._reward()
        if self._bar is not None and self._task is not None:
            speed = f"{numbers['speed/steps_per_s']:,.0f}"
            self._bar.update(
                self._task, completed=steps, speed=speed, reward="-" if reward is None else f"{reward:.3g}"
            )
        now_s = time.monotonic()
        passed_s = now_s - self._said_s
        if passed_s < self._interval_s and self._said_steps is not None:
            return
        means = {name: total / self._batches for name, total in self._sums.items()}
        numbers = means | {name: numbers[name] for name in _STATES if name in numbers}
        self._sums, self._batches = {}, 0
        everything = numbers | self._load.numbers()
        if reward is not None:
            everything |= {"rollout/reward": reward, "rollout/length": self._length()}
        for board in self._boards:
            board.scalars(steps, everything)
        self._line_of(steps, everything, reward, passed_s)
        self._said_s, self._said_steps = now_s, steps

    def _line_of(self, steps: int, numbers: dict[str, float], reward: float | None, passed_s: float) -> None:
        speed = numbers["speed/steps_per_s"]
        if self._said_steps is not None and passed_s > 0:
            speed = (steps - self._said_steps) / passed_s
        parts = [f"{steps:,} of {self._total:,} steps", f"{speed:,.0f} steps/s"]
        if reward is not None:
            parts.append(f"reward {reward:.4g}")
        names = ("value_loss", "entropy", "approx_kl", "clip_fraction")
        parts += [f"{name} {numbers[f'train/{name}']:.3g}" for name in names]
        parts += [f"{name} {value:.4g}" for name, value in numbers.items() if name.startswith("selfplay/")]
        parts += [f"{name.removeprefix('system/')} {numbers[name]:.0f}" for name in _BUSY if name in numbers]
        parts.append(f"{max(0.0, (self._total - steps) / max(speed, 1e-9)) / 60:.0f} min left")
        self.line(", ".join(parts))

    def show_evaluation(self, steps: int, score: ReturnStatistics, lower: float, *, is_best: bool) -> None:
        """Show an evaluation."""
        numbers = {"eval/mean_reward": score.mean, "eval/lower_bound": lower, "eval/length": score.length}
        numbers |= {f"eval/{name}_mean": value for name, value in score.parts.items()}
        for board in self._boards:
            board.scalars(steps, numbers)
        told = f"evaluation at {steps:,}: {score.mean:.4g} +- {score.std:.3g} over {score.episodes} episodes"
        self.line(f"{told}, lower bound {lower:.4g}{', the best so far' if is_best else ''}")

    def _reward(self) -> float | None:
        return sum(r for r, _ in self._episodes) / len(self._episodes) if self._episodes else None

    def _length(self) -> float:
        return sum(n for _, n in self._episodes) / len(self._episodes)

    def close(self) -> None:
        """Stop the bar and close what is open."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        for board in self._boards:
            board.close()
        if self._log is not None:
            self._log.close()
            self._log = None
