"""What people and trackers are told; a tracker that fails costs the tracking only."""

import sys
import types
from pathlib import Path

import pytest
from rich.console import Console

from schemas.errors import ConfigError
from trainer.dagger.messages import ExpertDone, Line, MilestoneResult, RoundDone
from trainer.dagger.milestones import MilestoneConfig
from trainer.dagger.pipeline import PipelineOptions
from trainer.dagger.reporting.console import Bars, Lines, summary
from trainer.dagger.reporting.html_report import page
from trainer.dagger.reporting.wandb_tracker import Tracker
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


def tell(watcher):
    watcher.begin(Schedule(("A",), (), ()), OPTIONS)
    watcher.started("A")
    watcher.heard("A", ExpertDone(success_rate=1.0, mean_steps=4.0, max_episode_steps=8))
    watcher.heard("A", Line(text="A: \x1b[31mgoing on"))
    watcher.heard("A", ROUND)
    watcher.ended(DONE)


def test_lines_say_what_happens_and_how_long_it_will_take(capsys):
    tell(Lines())
    said = capsys.readouterr().out
    assert "A: iteration 1/10, beta 1.00, success 0.50, no steps, loss 0.100, 7 labels, 3.0 s, ETA 27 s" in said
    assert "A: completed, success 0.75" in said
    assert "\x1b" not in said


def test_bars_and_the_table_show_the_same(tmp_path):
    with (tmp_path / "screen").open("w", encoding="utf-8") as file:
        console = Console(file=file, force_terminal=True, width=120)
        with Bars(console) as bars:
            tell(bars)
        summary([DONE, FAILED], console)
    shown = (tmp_path / "screen").read_text(encoding="utf-8")
    assert "A: completed, success 0.75" in shown
    assert "the <expert> raised [red]" in shown
    assert "\x1b[31mgoing on" not in shown


def test_the_report_executes_nothing_that_it_is_told():
    html = page([FAILED], {"B": {"milestone": {"description": "<script>alert(1)</script>"}}})
    assert "<script>" not in html
    assert "the &lt;expert&gt; raised" in html


def fake_wandb(monkeypatch, init):
    module = types.ModuleType("wandb")
    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)


class FakeRun:
    def __init__(self, *, fails=False):
        self.logged, self.over, self._fails = [], False, fails

    def log(self, values):
        if self._fails:
            raise RuntimeError("connection lost")
        self.logged.append(values)

    def finish(self):
        self.over = True


def test_numbers_go_to_the_tracker_which_goes_offline_without_a_network(tmp_path, monkeypatch, capsys):
    run, asked = FakeRun(), []

    def init(**given):
        asked.append(given.get("mode"))
        if given.get("mode") != "offline":
            raise ConnectionError("no network")
        return run

    fake_wandb(monkeypatch, init)
    tracker = Tracker("project", None, tmp_path)
    tell(tracker)
    tracker.close()
    assert asked == [None, "offline"]
    assert run.logged[0]["A/success_rate"] == 0.5
    assert "A/mean_steps" not in run.logged[0]
    assert run.logged[1] == {"A/final_success_rate": 0.75}
    assert run.over
    assert "no network; going on offline" in capsys.readouterr().err


def test_a_tracker_that_fails_costs_the_tracking_only(tmp_path, monkeypatch, capsys):
    fake_wandb(monkeypatch, lambda **_: FakeRun(fails=True))
    tell(Tracker("project", None, tmp_path))
    assert capsys.readouterr().err.count("connection lost; tracking ends here") == 1


def test_without_the_package_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="--track needs wandb"):
        Tracker("project", None, tmp_path)


def test_without_an_encoder_one_line_says_so(tmp_path, monkeypatch, capsys):
    from tests.fakes.corridor import write_project
    from trainer.dagger import cli

    monkeypatch.setattr(cli, "can_record", lambda: False)
    assert not cli._options(cli.parser().parse_args(write_project(tmp_path))).record_video
    assert capsys.readouterr().err.count("no videos, since av is not installed") == 1
    assert not cli._options(cli.parser().parse_args([*write_project(tmp_path), "--no-record-video"])).record_video
    assert capsys.readouterr().err == ""
