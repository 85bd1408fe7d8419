"""The dashboard's layout at every size and in every state."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from rich.cells import cell_len
from rich.console import Console

from daemon.ledger.ledger import Ledger
from daemon.ui import dashboard as dashboard_module
from daemon.ui.dashboard import Painter, render, snapshot_svg
from daemon.ui.glyphs import ASCII, BLOCKS, bar, chart, duration, glyphs_for, number, resample
from schemas.status import DaemonState
from schemas.storage.layout import ProjectPaths
from schemas.text import ascii_safe
from scripts import dashboard_picture
from tests.daemon.ui.snapshots import (
    IDLE,
    LOG,
    MACHINE,
    SIZES,
    VIEWS,
    cycle,
    epochs,
    status,
    text_of,
    view,
    warning,
)


@pytest.mark.parametrize("glyphs", [BLOCKS, ASCII], ids=["blocks", "ascii"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", VIEWS)
def test_nothing_wraps_or_overflows(name, size, glyphs):
    width, height = size
    plain = {"markup": False, "emoji": False, "highlight": False, "legacy_windows": False}
    console = Console(file=io.StringIO(), width=width, height=height, **plain)
    console.print(render(VIEWS[name], width=width, height=height, glyphs=glyphs))
    printed = console.file.getvalue().splitlines()
    assert printed == text_of(VIEWS[name], width, height, glyphs)
    assert [cell_len(line) for line in printed] == [width] * height
    assert glyphs is BLOCKS or "\n".join(printed).isascii()


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_positions_depend_on_the_size_alone(size):
    """Check that titles, labels and the vertical line are at the same positions in every state."""

    def places(shown_view):
        rows = text_of(shown_view, *size)
        labels = ("   rollouts ", "   cycle ", "   model ", "   epoch ", "│ reward per step", "│ value loss", "│ CPU ")
        found = [next(y for y, row in enumerate(rows) if label in row) for label in labels]
        return found, [y for y, row in enumerate(rows) if row.startswith("──")], [row.find("│") for row in rows]

    places_of = {name: places(shown_view) for name, shown_view in VIEWS.items()}
    assert len(places_of["idle"][1]) == 3
    assert all(place == places_of["idle"] for place in places_of.values()), places_of


@pytest.mark.parametrize("size", [(w, h) for w in (1, 2, 7, 20, 33, 59, 79) for h in (1, 2, 5, 8, 11, 14, 23)], ids=str)
@pytest.mark.parametrize("name", ["idle", "parked", "many warnings"])
def test_a_tiny_terminal_shows_what_fits(name, size):
    width, height = size
    assert [cell_len(line) for line in text_of(VIEWS[name], width, height)] == [width] * height


def test_80_by_24_shows_state_rollouts_cycle_model_and_warnings():
    whole = "\n".join(text_of(VIEWS["training"], 80, 24))
    for fact in (
        "RacingGame",
        "up 2 h 14 min",
        "● training",
        "4 of 10 toward cycle 32",
        "epoch 4 of 10, 17 s",
        "cycle_000030/model_epoch_9.json  policy version 30",
        "cycles 1 to 30",
        "first 0.100  last 3.000  best 3.000",
        "first 9.000  last 0.300  best 0.300",
        "No warnings",
        "34 %   memory 5.1 of 16.7 GB",
        "trainer 612 MB",
        "RTX 4090",
        "12:00:59   [2/5] training: line 59",
    ):
        assert fact in whole
    assert "C:/Games" not in whole, "no absolute path is shown"


def test_the_chosen_epoch_is_marked_with_the_reason():
    rows = text_of(IDLE, 80, 24)
    assert next(row for row in rows if "►" in row).split()[1] == "9"
    assert any("Cycle 30: epoch 9, the lowest score" in row for row in rows)
    requested = replace(IDLE, status=status(epochs=epochs(10, chosen=2), epochs_total=10))
    rows = text_of(requested, 80, 24)
    assert next(row for row in rows if "►" in row).split()[1] == "2"
    assert any("epoch 2, as requested" in row for row in rows)


def test_the_chosen_one_of_many_epochs_is_visible():
    for chosen in (1, 9, 500, 1000):
        many = replace(IDLE, status=status(epochs=epochs(1000, chosen=chosen), epochs_total=1000))
        assert sum(row.startswith(f" ► {chosen:5}") for row in text_of(many, 80, 24)) == 1


def test_a_failed_cycle_shows_its_error_after_its_epochs():
    rows = text_of(VIEWS["failed late"], 80, 24)
    at = next(y for y, row in enumerate(rows) if "it ended with 1" in row)
    assert rows[at - 1].startswith("       7")
    assert any("Cycle 3: failed" in row for row in rows)


CRASH = "ValueError: shapes (64,3) (64,) do not fit (losses.py, line 12) -> please report it with the log [E_BUG]"


@pytest.mark.parametrize("glyphs", [BLOCKS, ASCII], ids=["blocks", "ascii"])
@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=str)
@pytest.mark.parametrize("error", [CRASH, CRASH.replace("fit", "pa\u00dfen")], ids=["ascii", "unicode"])
def test_the_error_of_a_cycle_is_on_the_screen_once_with_the_place_of_the_crash(error, size, glyphs):
    failed_3 = warning(f"cycle 3 failed: {error} (log: cycle_3.log)", code="W_CYCLE_FAILED")
    failed = view(
        status(cycle=3, warnings=(failed_3,), epochs=epochs(4)),
        [cycle(1), cycle(2), cycle(3, error=error)],
        log_lines=[f"2026-11-21 12:00:00 WARNING {ascii_safe(f'cycle 3 failed: {error} (log: cycle_3.log)')}"],
    )
    rows = text_of(failed, *size, glyphs)
    words = " ".join(
        " ".join(row.split(glyphs.vertical_line)[0].split()) for row in rows if glyphs.vertical_line in row
    )
    assert glyphs.clean(error) in words, "the epochs panel shows all of it"
    screen = " ".join("\n".join(rows).split())
    assert screen.count("ValueError") == screen.count("E_BUG") == 1
    assert "cycle 3 failed" not in screen, "neither the warnings nor the log repeat it"
    assert "see Logs/cycle_3.log" in words
    assert "No other warnings" in screen


def test_the_error_of_a_parked_cycle_is_on_the_screen_once():
    parked = warning(f"cycle 3 is parked: {CRASH} -> `hotlap trigger` tries it again", code="W_PARKED")
    shown = view(
        status(DaemonState.PARKED, step="parked after failures: `hotlap trigger` tries again", warnings=(parked,)),
        [cycle(30, error=CRASH)],
        log_lines=[f"2026-11-21 12:00:00 WARNING {parked.line()}"],
    )
    screen = " ".join(" ".join(text_of(shown, 120, 40)).split())
    assert (screen.count("ValueError"), screen.count("tries")) == (1, 1)


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=str)
def test_a_warning_is_not_repeated_in_the_log(size):
    one = warning("the engine uses an old model", code="W_STALE")
    lines = [*LOG[:3], f"2026-11-21 11:59:00 WARNING {ascii_safe(one.line())}", *LOG[3:5]]
    rows = text_of(replace(IDLE, status=status(warnings=(one,)), log_lines=tuple(lines)), *size)
    screen = "\n".join(rows)
    assert screen.count("an old model") == 1
    assert "line 4" in screen, "its place in the log is used by other lines"
    later = text_of(replace(IDLE, log_lines=tuple(lines)), *size)
    assert "warning: the engine uses an old model [W_STALE]" in "\n".join(later), "when it is over, the log has it"


def test_log_lines_of_an_earlier_day_have_the_date():
    lines = ("2026-11-19 23:59:58 INFO  stopped; the next start continues from here", LOG[0])
    rows = text_of(replace(IDLE, log_lines=lines), 80, 24)
    assert any(row.startswith("  11-19 23:59 stopped; the next") for row in rows)
    assert any(row.startswith("   12:00:00   [2/5]") for row in rows)


def test_the_last_cycle_is_shown_after_a_restart():
    rows = "\n".join(text_of(replace(IDLE, status=status(cycle=0)), 80, 24))
    assert "toward cycle 31" in rows
    assert "none yet" not in rows


def test_a_single_warning_gets_all_rows_and_many_are_counted():
    one = replace(IDLE, status=status(warnings=(warning("word " * 24 + "end"),)))
    assert "end" in "\n".join(text_of(one, 80, 24))
    rows = text_of(VIEWS["many warnings"], 80, 24)
    assert any("Warnings: 9, newest 2 shown" in row for row in rows)
    assert [row[:13] for row in rows if row.startswith(" ! ")] == [" ! 1 s ago   ", " ! 10 s ago  "]


HOSTILE = {
    "markup": "rollout_[bold red]x[/]_[link=file:///etc/passwd]y[/link].json",
    "unbalanced": "rollout_1_[/].json",
    "emoji": "rollout_:skull:.json",
    "clear": "rollout_\x1b[2J.json",
    "clipboard": "rollout_\x1b]52;c;aGk=\x07.json",
    "c1": "rollout_\x9b2J.json",
    "bidi": "rollout_\u202egpj.json",
    "newlines": "rollout_\r\n12:00:00 forged\u2028.json",
    "surrogate": "rollout_\udcff\ud800.json",
    "wide": "rollout_" + "賽車遊戲" * 40,
    "combining": "rollout_" + "e\u0301\u200d" * 90,
}
OURS = re.compile(r"\x1b\[[0-9;]*[mH]")


def with_name(name):
    return view(
        status(
            DaemonState.PARKED,
            step=name,
            cycle=2,
            best_model_path=f"C:/x/{name}",
            warnings=(warning(name),),
        ),
        [cycle(1), cycle(2, error=name)],
        log_lines=[name, f"2026-11-21 12:00:00 ERROR {name}"],
        machine=replace(MACHINE, gpu="a GPU"),
        project=name,
    )


def foreign_controls(written):
    """Return the control characters that are not the dashboard's own."""
    return re.findall(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\ud800-\udfff]", OURS.sub("", written))


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("encoding", ["utf-8", "cp1252"])
def test_names_are_shown_as_text(name, encoding):
    written = Painter(encoding).changes(with_name(HOSTILE[name]), 120, 40)
    assert foreign_controls(written) == []
    written.encode("utf-8")
    if name in {"markup", "unbalanced", "emoji"}:
        assert OURS.sub("", written).count(HOSTILE[name]) >= 5
    rows = text_of(with_name(HOSTILE[name]), 80, 24)
    assert [cell_len(row) for row in rows] == [80] * 24


def test_the_search_for_controls_finds_some(monkeypatch):
    """Check the control of the test above: a dashboard that does not clean names shows control characters."""
    monkeypatch.setattr(dashboard_module, "glyphs_for", lambda _: replace(BLOCKS, clean=str))
    written = Painter("utf-8").changes(with_name(HOSTILE["c1"]), 120, 40)
    assert "\x9b" in foreign_controls(written)


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "cp932", "latin-1", "ascii", None, "no-such-encoding"])
def test_a_console_without_block_characters_gets_ascii(encoding):
    assert glyphs_for(encoding) is ASCII
    Painter(encoding).changes(IDLE, 80, 24).encode("ascii")


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "gb18030"])
def test_a_console_with_block_characters_gets_them(encoding):
    assert glyphs_for(encoding) is BLOCKS
    assert "█" in Painter(encoding).changes(IDLE, 80, 24)


def test_svg_is_well_formed_and_reproducible():
    hostile = with_name("<script>alert(1)</script>&\x1b[2J")
    svg = snapshot_svg(hostile, 100, 30)
    root = ET.fromstring(svg)
    assert not [element for element in root.iter() if element.tag.endswith("script")]
    assert "\x1b" not in svg
    assert svg == snapshot_svg(hostile, 100, 30)


def test_the_script_draws_a_project_without_its_daemon(tmp_path, monkeypatch):
    paths = ProjectPaths(tmp_path / "RacingGame")
    paths.make()
    out = tmp_path / "dashboard.svg"
    assert dashboard_picture.main([str(paths.project), str(out)]) == 3, "no daemon has run there"
    paths.status.write_bytes(IDLE.status.to_bytes())
    paths.daemon_log.write_text("\n".join(LOG))
    Ledger.open(paths.ledger).close()
    monkeypatch.setattr(dashboard_picture, "INTERVAL_S", 0.0)
    assert dashboard_picture.main([str(paths.project), str(out), "80", "24"]) == 0
    shown_text = "".join(ET.fromstring(out.read_text(encoding="utf-8")).itertext()).replace("\xa0", " ")
    assert "RacingGame" in shown_text
    assert "4 of 10" in shown_text
    assert str(tmp_path) not in shown_text


def test_a_chart_rises_where_the_values_rise():
    assert chart([0, 1, 2, 3, 4, 5, 6, 7], 8, 1, BLOCKS) == ["▁▂▃▄▅▆▇█"]
    assert chart([0, 7, 8, 15], 4, 2, BLOCKS) == ["  ▁█", "▁███"]
    assert chart([1, None, 2], 3, 1, ASCII) == [". #"]
    assert chart([5.0, 5.0], 2, 2, BLOCKS) == ["  ", "▁▁"]
    assert chart([], 9, 2, BLOCKS) == chart([None], 9, 2, BLOCKS) == ["", ""]
    assert chart([-1.7e308, 1.7e308], 2, 1, BLOCKS) == ["▁█"]


def test_few_values_are_drawn_wide_and_many_as_means():
    assert chart([1, 2], 8, 1, BLOCKS) == ["▁▁▁▁████"]
    assert chart([1, 2], 7, 1, BLOCKS) == ["▁▁██"]
    assert resample([1.0, 3.0, None, 5.0, None, None], 3) == [2.0, 5.0, None]


def test_a_bar_is_full_only_when_done():
    assert bar(0.0, 10, ASCII) == ("", "." * 10)
    assert bar(1e-9, 10, ASCII) == ("#", "." * 9)
    assert bar(0.999, 10, ASCII) == ("#" * 9, ".")
    assert bar(2.5, 10, ASCII) == ("#" * 10, "")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.43124, "0.4312"),
        (-12.3456, "-12.346"),
        (99999.4, "99999"),
        (3e-7, "3.00e-7"),
        (-1.7e308, "-1.70e308"),
        (None, "-"),
        (float("nan"), "-"),
        (float("-inf"), "-"),
    ],
)
def test_numbers_are_short(value, text):
    assert number(value, 5) == text


def test_longer_durations_are_less_precise():
    assert [duration(s) for s in (-5, 59.9, 60, 3599, 8060, 90000)] == [
        "0 s", "59 s", "1 min", "59 min", "2 h 14 min", "1 d 1 h",
    ]  # fmt: skip
