"""The plot of a run shows the values in its log."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

from benchmarks.online.plot import binned, picture, points_of
from trainer.online.reporting.console import RunConsole


def test_the_log_that_a_run_writes_is_read(tmp_path):
    show = RunConsole(tmp_path, total_steps=10_000, interval_s=0.0, loggers=[], out=io.StringIO())
    losses = dict.fromkeys(("train/value_loss", "train/entropy", "train/approx_kl", "train/clip_fraction"), 0.0)
    for steps, touches in ((1000, 0.5), (2000, 1.5), (9000, 12.0)):
        game = {"selfplay/touches_per_min": touches, "selfplay/goals_per_min": touches / 10}
        show.show_batch(steps, losses | {"speed/steps_per_s": 1.0} | game, [])
    show.line("checkpoint: model_step_0000009000.pt")
    show.close()
    points = points_of((tmp_path / "train.log").read_text())
    assert points == [(1000.0, 0.5, 0.05), (2000.0, 1.5, 0.15), (9000.0, 12.0, 1.2)]
    assert binned(points, bins=2) == [(1500.0, 1.0, 0.1), (9000.0, 12.0, 1.2)]
    circles = [e for e in ET.fromstring(picture(points)).iter() if e.tag.endswith("circle")]
    assert len(circles) == 6
