"""What the consoles, the report and the tracker show of a run."""

import re
import sys
import types
from pathlib import Path

import pytest
from rich.console import Console

from trainer.dagger.messages import ExpertEvaluated, Message, RoundDone
from trainer.dagger.milestones import MilestoneConfig
from trainer.dagger.pipeline import PipelineOptions
from trainer.dagger.reporting.console import LineConsole, ProgressConsole, print_summary
from trainer.dagger.reporting.html_report import render_page
from trainer.dagger.reporting.wandb_tracker import WandbTracker
from trainer.dagger.results import MilestoneResult
from trainer.dagger.schedule import Schedule, Selection
from trainer.dagger.settings import DaggerSettings

CONFIG = MilestoneConfig.model_validate_json('{"env": "racing", "milestones": [{"id": "A", "max_steps": 5}]}')
OPTIONS = PipelineOptions(CONFIG, DaggerSettings(), Selection(), Path(), Path(), Path(), "cpu", False, 1)
ROUND = RoundDone(
    iteration=0, iterations=10, beta=1.0, success_rate=0.5, mean_steps=None, loss=0.1, labels=7, seconds=3.0
)
DONE = MilestoneResult(
    milestone_id="A", index=0, timestamp="2026-01-01T00:00:00+00:00", status="completed", dagger_final_success_rate=0.75
)
FAILED = DONE.model_copy(update={"status": "failed", "reason": "the <expert> raised [red]", "milestone_id": "B"})


def send_events(listener):
    listener.run_started(Schedule(("A",), (), ()), OPTIONS)
    listener.milestone_started("A")
    listener.event_received("A", ExpertEvaluated(success_rate=1.0, mean_steps=4.0, max_episode_steps=8))
    listener.event_received("A", Message(text="A: \x1b[31mcontinues"))
    listener.event_received("A", ROUND)
    listener.milestone_ended(DONE)


def test_lines_show_each_event_and_the_time_left(capsys):
    send_events(LineConsole())
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "1 milestone to do",
        "A: starts",
        "A: expert 1.00, 4.0 steps, step limit 8",
        "A: \\x1b[31mcontinues",
        "A: iteration 1/10, beta 1.00, success 0.50, no steps, loss 0.100, 7 labels, 3.0 s, ETA 27 s",
        "A: completed, success 0.75",
    ]


def test_progress_bars_and_summary_show_results_and_no_markup(tmp_path):
    with (tmp_path / "screen").open("w", encoding="utf-8") as file:
        console = Console(file=file, force_terminal=True, width=120)
        with ProgressConsole(console) as listener:
            send_events(listener)
        print_summary([DONE, FAILED], console)
    shown = (tmp_path / "screen").read_text(encoding="utf-8")
    assert "A: completed, success 0.75" in shown
    assert "the <expert> raised [red]" in shown
    assert "\x1b[31mcontinues" not in shown


def test_report_escapes_text_from_files():
    html = render_page([FAILED], {"B": {"milestone": {"description": "<script>alert(1)</script>"}}})
    assert "<script>" not in html
    assert "the &lt;expert&gt; raised" in html


def test_tracker_logs_rounds_and_final_success_rates(tmp_path, monkeypatch):
    run = types.SimpleNamespace(logged=[], is_finished=False)
    run.log = lambda values, step: run.logged.append(values)
    run.finish = lambda: setattr(run, "is_finished", True)
    configs = []
    module = types.ModuleType("wandb")
    module.init = lambda config, **_: configs.append(config) or run
    monkeypatch.setitem(sys.modules, "wandb", module)
    tracker = WandbTracker("project", None, tmp_path)
    send_events(tracker)
    tracker.close()
    assert configs[0]["milestones"] == ["A"]
    assert configs[0]["dagger_iterations"] == 10
    assert run.logged[0]["A/success_rate"] == 0.5
    assert "A/mean_steps" not in run.logged[0]
    assert run.logged[1] == {"A/final_success_rate": 0.75}
    assert run.is_finished


@pytest.mark.parametrize("flag", [None, "--no-record-video"])
def test_a_missing_encoder_is_reported_in_one_line_unless_videos_are_off(tmp_path, monkeypatch, capsys, flag):
    from tests.fakes.corridor import write_project
    from trainer.dagger import cli

    monkeypatch.setattr(cli, "can_record", lambda: False)
    arguments = [*write_project(tmp_path), *([flag] if flag else [])]
    assert not cli._options(cli.parser("hotlap dagger").parse_args(arguments)).record_video
    assert capsys.readouterr().err.count("no videos are recorded, because av is not installed") == (0 if flag else 1)


@pytest.mark.parametrize("losses", [[0.000123456, 0.0000987], [1234567.0, 12.0], [0.5, 0.5], [-0.00321, 1e-9]])
def test_labels_of_plots_are_not_cut(losses):
    """A label ends to the left of its axis: it must begin inside of the picture."""
    rounds = [{"labels": 12_345_678, "success_rate": 1.0, "loss": loss, "mean_steps": 123_456.7} for loss in losses]
    html = render_page([DONE], {"A": {"rounds": rounds}})
    pictures = re.findall(r'<svg width="(\d+)".*?</svg>', html)
    assert len(pictures) == 3
    texts = re.findall(r'<text x="(\d+)" y="\d+"( text-anchor="end")?>([^<]*)', html)
    assert len(texts) == 12
    for x, ends_there, text in texts:
        width = 0.62 * 11 * len(text)  # of a digit in the widest usual font, of 11 px
        start = int(x) - (width if ends_there else 0)
        assert start >= 0, text
        assert start + width <= min(map(int, pictures)), text


def test_report_shows_what_is_known_about_the_expert():
    html = render_page([DONE], {"A": {"expert": {"note": "the expert is <random>"}}})
    assert "the expert is &lt;random&gt;" in html
