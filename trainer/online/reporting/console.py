"""Output of a run: a progress bar on a terminal, ASCII lines on stdout and in train.log, values for the loggers."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from schemas.storage.guarded import open_own
from schemas.text import ascii_safe
from trainer.online.evaluation.comparison import Verdict
from trainer.online.evaluation.episodes import ReturnStatistics
from trainer.online.reporting.system_stats import SystemStats

_LATEST = ("selfplay/stage", "selfplay/elo", "selfplay/win_rate", "train/learning_rate", "train/entropy_coef")
"""Logged with their latest value; all others as means over the interval."""
_LOAD = ("system/cpu_percent", "system/gpu_percent", "system/gpu_memory_mb")


TRAIN_LOG = "train.log"


def _open_log(path: Path) -> TextIO:
    return os.fdopen(open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), "a", encoding="utf-8")


class RunConsole:
    """Writes lines to stdout and train.log, and values to the loggers (`trainer.online.reporting.loggers`)."""

    def __init__(
        self, folder: Path | None, *, total_steps: int, interval_s: float, loggers: list[Any], out: TextIO | None = None
    ) -> None:
        self._out = out or sys.stdout
        self._log = _open_log(folder / TRAIN_LOG) if folder else None
        self._total, self._interval_s, self._loggers = total_steps, interval_s, loggers
        self._episodes: deque[tuple[float, int]] = deque(maxlen=100)
        self._system = SystemStats()
        self._sums: dict[str, float] = {}
        self._batches = 0
        self._logged_s = time.monotonic()
        self._logged_steps: int | None = None
        self._last_steps, self._last_metrics = 0, dict[str, float]()
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
        """Write one line, as ASCII, so that a console with any code page can show it."""
        safe = ascii_safe(text)
        if self._log is not None:
            self._log.write(f"{time.strftime('%H:%M:%S')} {safe}\n")
            self._log.flush()
        if self._bar is not None:
            self._bar.console.print(safe, markup=False, highlight=False)
        else:
            print(safe, file=self._out, flush=True)

    def log(self, text: str) -> None:
        """Write lines to train.log alone."""
        if self._log is not None:
            self._log.write("".join(f"{ascii_safe(line)}\n" for line in text.splitlines()))
            self._log.flush()

    def show_batch(self, steps: int, metrics: dict[str, float], episodes: list[tuple[float, int]]) -> None:
        """Show a batch in the bar. At the end of an interval, write a line and log the means over the interval.

        `episodes` are the return and length of those that ended.
        """
        self._episodes.extend(episodes)
        for name, value in metrics.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._batches += 1
        reward = self._reward()
        if self._bar is not None and self._task is not None:
            speed = f"{metrics['speed/steps_per_s']:,.0f}"
            self._bar.update(
                self._task, completed=steps, speed=speed, reward="-" if reward is None else f"{reward:.3g}"
            )
        self._last_steps, self._last_metrics = steps, metrics
        if time.monotonic() - self._logged_s >= self._interval_s or self._logged_steps is None:
            self._log_interval()

    def log_rest(self) -> None:
        """Write a line and log the means of the batches since the last one, at the end of a run."""
        if self._batches:
            self._log_interval()

    def _log_interval(self) -> None:
        """Write a line and log the means since the last call."""
        steps, metrics, reward = self._last_steps, self._last_metrics, self._reward()
        now_s = time.monotonic()
        elapsed_s = now_s - self._logged_s
        means = {name: total / self._batches for name, total in self._sums.items()}
        latest = {name: metrics[name] for name in _LATEST if name in metrics}
        self._sums, self._batches = {}, 0
        logged = means | latest | self._system.metrics()
        if reward is not None:
            logged |= {"rollout/reward": reward, "rollout/length": self._length()}
        for logger in self._loggers:
            logger.scalars(steps, logged)
        self._write_summary(steps, logged, reward, elapsed_s)
        self._logged_s, self._logged_steps = now_s, steps

    def _write_summary(self, steps: int, metrics: dict[str, float], reward: float | None, elapsed_s: float) -> None:
        speed = metrics["speed/steps_per_s"]
        if self._logged_steps is not None and elapsed_s > 0:
            speed = (steps - self._logged_steps) / elapsed_s
        parts = [f"{steps:,} of {self._total:,} steps", f"{speed:,.0f} steps/s"]
        if reward is not None:
            parts.append(f"reward {reward:.4g}")
        names = ("value_loss", "critic_loss", "entropy", "exploration", "approx_kl", "clip_fraction")
        parts += [f"{name} {metrics[key]:.3g}" for name in names if (key := f"train/{name}") in metrics]
        parts += [f"{name} {value:.4g}" for name, value in metrics.items() if name.startswith("selfplay/")]
        parts += [f"{name.removeprefix('system/')} {metrics[name]:.0f}" for name in _LOAD if name in metrics]
        parts.append(f"{max(0.0, (self._total - steps) / max(speed, 1e-9)) / 60:.0f} min left")
        self.line(", ".join(parts))

    def show_evaluation(self, steps: int, score: ReturnStatistics, verdict: Verdict, reference_steps: int) -> None:
        """Write a line about an evaluation and its comparison with the reference, and log it."""
        metrics = {"eval/mean_reward": score.mean, "eval/std": score.std, "eval/length": score.length}
        metrics |= {f"eval/{name}_mean": value for name, value in score.parts.items()}
        for logger in self._loggers:
            logger.scalars(steps, metrics)
        result = f"evaluation at {steps:,}: {score.mean:.4g} +- {score.std:.3g} over {score.episodes} episodes"
        if score.cut:
            result += f", {score.cut} without an end were cut (most_steps)"
        against = f"than at {reference_steps:,} steps (by chance: {verdict.probability:.2g})" if reference_steps else ""
        if verdict.result == "worse":
            self.line(f"{result}, worse {against}: the best model stays")
        else:
            better = f", better {against}".rstrip() if verdict.result == "better" and reference_steps else ""
            self.line(f"{result}{better}, the best so far")

    def _reward(self) -> float | None:
        return sum(r for r, _ in self._episodes) / len(self._episodes) if self._episodes else None

    def _length(self) -> float:
        return sum(n for _, n in self._episodes) / len(self._episodes)

    def close(self) -> None:
        """Log what was not logged yet, stop the progress bar and close the loggers and train.log."""
        self.log_rest()
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        for logger in self._loggers:
            logger.close()
        if self._log is not None:
            self._log.close()
            self._log = None
