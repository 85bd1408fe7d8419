"""Unusual file names: all are accepted, and only shown in printable form (fault table, rows 22 and 23)."""

from __future__ import annotations

import io
import os
import re

import orjson
import pytest

from daemon.rollouts.rejection import LONGEST_NAME_BYTES
from daemon.ui.log import Log
from schemas.storage.layout import is_rollout_name
from tests.daemon.ui import snapshots as views
from tests.faults.support.harness import InstantHarness
from tests.faults.support.inputs import reasons
from tests.helpers import v1_bytes
from tests.platforms import needs_linux

GOOD = v1_bytes(seed=1)


ODD_NAMES = [
    "rollout_[bold red]x.json",
    "rollout_[reverse]x[not reverse].json",
    "rollout_[link=evil.example]x.json",
    "rollout_:skull:.json",
    "rollout_\x1b[2J\x1b]52;c;aGk=\x07.json",
    "rollout_\x9b2J.json",
    "rollout_a\n2026-11-21 12:00:00 ERROR forged.json",
    "rollout_a\rb\tc.json",
    "rollout_\u202egpj.json",
    "rollout_\u2028x\u2066y.json",
    "rollout_100%s{0}.json",
    "rollout_-rf $(x) `y`.json",
    "rollout_" + "x" * 242 + ".json",
    "rollout_" + "\N{CHEQUERED FLAG}" * 60 + ".json",
]
NOT_UTF8 = "rollout_\udcff\udcfe.json"  # bytes that are not UTF-8
WHITE_AROUND = ["rollout_7.json ", " rollout_8.json", "rollout_9.json\n"]


def watched_console(harness: InstantHarness) -> io.StringIO:
    """Make a harness write the daemon's real log; return its console."""
    console = io.StringIO()
    harness.context.log = Log(harness.paths.daemon_log, console)
    return console


@pytest.mark.fault(22)
@needs_linux("names of any bytes")
@pytest.mark.parametrize(
    "content", [GOOD[:-10] + b', "seed": %d}', b'{"experiences": [], "seed": %d}'], ids=["good", "bad"]
)
def test_every_name_is_accepted_and_only_shown_in_printable_form(make_input_harness, content):
    harness = make_input_harness(auto_train_after_n_rollouts=len(ODD_NAMES))
    console = watched_console(harness)
    for number, name in enumerate([*ODD_NAMES, NOT_UTF8, *WHITE_AROUND]):
        data = v1_bytes(seed=number, n=4) if content.startswith(GOOD[:20]) else content % number
        (harness.paths.exports / name).write_bytes(data)
    is_good = content.startswith(GOOD[:20])
    if is_good:
        harness.until_version(1)
        harness.until(lambda: harness.ledger.rejected_count() == 1)
    else:
        harness.until(lambda: harness.ledger.rejected_count() == len(ODD_NAMES) + 1)
    assert harness.failures == []
    assert "W_ODD_FILES" in harness.warnings()
    harness.service.report_end()
    harness.context.log.close()
    printed = console.getvalue() + harness.paths.daemon_log.read_text(encoding="utf-8")
    assert printed.isascii()
    assert all(line.isprintable() for line in printed.splitlines())
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO|WARNING|ERROR)", line) for line in printed.splitlines())
    status = orjson.loads(harness.paths.status.read_bytes())
    assert all(warning["message"].isprintable() for warning in status["warnings"])
    shown = "\n".join(
        views.text_of(views.view(views.status(warnings=harness.context.warnings())), 120, 40, views.BLOCKS)
    )
    assert "\x1b" not in shown
    if not is_good:
        assert set(reasons(harness).values()) == {"E_EMPTY", "E_NAME"}
        assert all(len(os.fsencode(path.name)) <= 255 for path in harness.paths.rejected.iterdir())
    left = {path.name for path in harness.paths.exports.iterdir()}
    assert left == {*WHITE_AROUND, *(ODD_NAMES if is_good else [])}


@pytest.mark.fault(22)
def test_two_long_names_that_differ_at_their_ends_are_both_kept_in_rejected(make_input_harness):
    harness = make_input_harness()
    long = "x" * 241
    for end in "ab":
        (harness.paths.exports / f"rollout_{long}{end}.json").write_bytes(b'{"experiences": []}')
    for _ in range(2):
        harness.until(lambda: harness.inbox.is_up_to_date and not list(harness.paths.exports.iterdir()))
        (harness.paths.exports / f"rollout_{long}a.json").write_bytes(b'{"experiences": []}')
    harness.until(lambda: harness.ledger.rejected_count() == 4)
    assert len(reasons(harness)) == 4
    assert len(f"rollout_{long}a.json") > LONGEST_NAME_BYTES


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("rollout_1_20261121_120000.json", True),
        ("ROLLOUT_1_20261121_120000.JSON", True),
        ("Rollout_x.Json", True),
        ("rollout_1..json", True),
        ("rollout_1.json.json", True),
        ("rollout_.json", False),
        ("rollout.json", False),
        ("rollout_1.json.tmp", False),
        ("rollout_1.JSON.TMP", False),
        ("rollout_1.json.part", False),
        ("~$rollout_1.json", False),
        (".rollout_1.json", False),
        ("._rollout_1.json", False),
        ("xrollout_1.json", False),
        ("rollout_1.json~", False),
    ],
)
def test_which_names_are_rollouts(name, is_one):
    assert is_rollout_name(name) == is_one


@pytest.mark.fault(23)
@needs_linux("names that differ only in case")
def test_variants_of_a_name_count_and_leftovers_are_left_where_they_are(make_input_harness):
    harness = make_input_harness(auto_train_after_n_rollouts=3)
    exports = harness.paths.exports
    names = ["ROLLOUT_1_X.JSON", "rollout_1_x.json", "rollout_1_x..json"]
    leftovers = ["rollout_2.json.tmp", "~$rollout_1_x.json", ".rollout_1.json.swp"]
    for number, name in enumerate([*names, *leftovers]):
        (exports / name).write_bytes(v1_bytes(seed=number))
    harness.until_version(1)
    assert sorted(used.row.name for used in harness.ledger.rollouts_of(1)) == sorted(names)
    assert {path.name for path in exports.iterdir()} == {*names, *leftovers}
