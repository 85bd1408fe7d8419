"""The long runs show what is done, what is left and what was found, and print the counts after Ctrl-C."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.faults.lib.progress import STOPPED, NoProgress, Progress, in_words
from scripts.faults.state_machine_run import RunBatch, run_all

ROOT = Path(__file__).resolve().parents[2]


class Watch:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def __call__(self) -> float:
        return self.at_s


def progress_at(done: int, seconds: float, total: int = 200, **more: float) -> Progress:
    watch = Watch()
    progress = Progress("random kills", total, unit="kills", out=io.StringIO(), now=watch, **more)  # type: ignore[arg-type]
    watch.at_s += seconds
    progress.advance(done)
    return progress


def test_the_line_has_the_count_the_times_and_the_violations():
    progress = progress_at(50, 30.0)
    assert progress.text() == "random kills: 50 of 200 kills, 30 s, about 1 min 30 s left, 0 violations so far"
    progress.advance(violations=["one"])
    assert progress.text().endswith("1 violation so far")


def test_without_a_total_nothing_is_guessed():
    assert progress_at(3, 5.0, total=0).text() == "random kills: 3 kills, 5 s, 0 violations so far"
    assert progress_at(0, 5.0).text() == "random kills: 0 of 200 kills, 5 s, 0 violations so far"


def test_a_run_that_ends_at_a_time_counts_down_to_it():
    assert "about 20 s left" in progress_at(7, 40.0, total=0, total_s=60.0).text()


def test_durations_are_words():
    assert [in_words(s) for s in (0.4, 59, 61, 3600 * 2 + 7 * 60)] == ["0 s", "59 s", "1 min 1 s", "2 h 7 min"]


def test_another_part_begins_from_zero_and_keeps_the_violations():
    progress = progress_at(50, 30.0)
    progress.advance(violations=["one"])
    progress.begin("failed fsync", 16, unit="points")
    assert progress.text() == "failed fsync: 0 of 16 points, 0 s, 1 violation so far"


def test_ctrl_c_prints_the_counts_so_far():
    out = io.StringIO()

    def run() -> None:
        with Progress("soak", 9, out=out) as progress:
            progress.summary = lambda: "memory 60 MB"
            progress.advance(4)
            raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        run()
    assert ended.value.code == STOPPED
    assert out.getvalue().splitlines()[-1].startswith("stopped: soak: 4 of 9 runs, 0 s")
    assert out.getvalue().endswith("; memory 60 MB\n")


def test_runs_in_other_processes_are_counted_as_they_end():
    progress = Progress("x", 2)
    counts, violations = run_all([RunBatch(1, 1, seed, shrinks=False) for seed in (0, 1)], 1, progress)
    assert (violations, counts["runs"] >= 2) == ([], True)
    assert ": 2 of 2 runs" in progress.text()


def test_no_progress_writes_nothing(capsys):
    progress = NoProgress()
    progress.begin("x", 3)
    progress.advance()
    progress.show()
    assert capsys.readouterr() == ("", "")


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to one process")
def test_a_command_that_is_interrupted_ends_with_its_counts():
    command = [sys.executable, "-m", "scripts.faults.fuzz", "--seconds", "60", "--seed", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        assert run.stderr
        first = run.stderr.readline()
        assert first.startswith("fuzz of rollouts: 0 files, 0 s, about 1 min 0 s left")
        run.send_signal(signal.SIGINT)
        _, rest = run.communicate(timeout=60)
    assert run.returncode == STOPPED
    assert rest.splitlines()[-1].startswith("stopped: fuzz of rollouts: ")
    assert "rules broken" in rest
    assert "Traceback" not in rest
