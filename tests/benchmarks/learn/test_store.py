"""The store keeps every run, resumes, and survives a torn last line."""

from __future__ import annotations

import argparse
import xml.etree.ElementTree as ET

import pytest

from benchmarks.learn import cli, report
from benchmarks.learn.contenders.settings import check_overrides, parse_overrides
from benchmarks.learn.plot import overall_curves
from benchmarks.learn.report import Selection, estimated_cpu_s, list_missing
from benchmarks.learn.runs import FLOOR_CYCLES, Run, Sizes, plan_runs, seed_pairs
from benchmarks.learn.store import Store
from tests.benchmarks.learn.records import record

SETTINGS = (("trainer.epochs", "20"),)


def test_a_record_is_read_back_as_it_was_written(tmp_path):
    path = tmp_path / "results" / "learn.jsonl"
    stored = record("hotlap-v2", "Acrobot-v1", [None, -500.0], label="more epochs", settings=SETTINGS)
    Store(path).append(stored)
    assert Store(path).records == [stored]


def test_only_missing_runs_are_measured(tmp_path):
    path = tmp_path / "learn.jsonl"
    store = Store(path)
    runs = [record("sb3-ppo", "racing", [0.1, 0.2], seed=seed).run for seed in range(3)]
    store.append(record("sb3-ppo", "racing", [0.1, 0.2], seed=1))
    assert Store(path).missing([*runs, runs[0]]) == [runs[0], runs[2]]


def test_a_torn_last_line_is_skipped_and_the_next_record_is_whole(tmp_path):
    path = tmp_path / "learn.jsonl"
    first, second = (record("sb3-ppo", "racing", [0.1], seed=seed) for seed in (0, 1))
    Store(path).append(first)
    with path.open("ab") as file:
        file.write(second.line().encode()[:50])
    store = Store(path)
    assert store.records == [first]
    assert store.skipped == 1
    store.append(second)
    assert Store(path).records == [first, second]


def test_a_run_that_is_measured_again_keeps_both_and_the_newest_counts(tmp_path):
    store = Store(tmp_path / "learn.jsonl")
    store.append(record("sb3-ppo", "racing", [0.1], commit="old"))
    store.append(record("sb3-ppo", "racing", [0.2], commit="new"))
    assert len(Store(store.path).records) == 2
    assert [found.commit for found in store.newest().values()] == ["new"]


def test_seeds_are_paired_or_crossed():
    assert seed_pairs([0, 1], [5, 6], crossed=False) == [(0, 5), (1, 6)]
    assert seed_pairs([0, 1], [5, 6], crossed=True) == [(0, 5), (0, 6), (1, 5), (1, 6)]
    with pytest.raises(ValueError, match="cannot be paired"):
        seed_pairs([0, 1], [5], crossed=False)


def test_settings_belong_to_hotlap_and_choices_to_learners_that_have_them():
    names = ["untrained", "sb3-sac", "sb3-ppo", "hotlap-v2"]
    environments = [("Acrobot-v1", 20, True), ("racing", 20, False)]
    runs = plan_runs(names, environments, [(0, 0)], label="x", settings=SETTINGS)
    assert {(r.contender, r.environment) for r in runs} == {
        (name, environment) for name in names for environment, _, _ in environments
    } - {("sb3-sac", "Acrobot-v1")}
    assert {(r.contender, r.label, r.settings) for r in runs if r.label == "x"} == {("hotlap-v2", "x", SETTINGS)}
    assert {r.cycles for r in runs if r.contender == "untrained"} == {FLOOR_CYCLES}


@pytest.mark.parametrize("text", ["epochs=3", "trainer.epochs", "daemon.epochs=3", "trainer.=3"])
def test_a_setting_of_another_form_is_rejected(text):
    with pytest.raises(ValueError, match=r"GROUP\.NAME=VALUE"):
        parse_overrides([text])


@pytest.mark.parametrize("text", ["trainer.epoch=3", "trainer.epochs=0", "agent.sizes=[64]", "online.train.epoch=1"])
def test_an_unknown_setting_is_rejected_before_anything_is_measured(text):
    with pytest.raises(ValueError):
        check_overrides(parse_overrides([text]))


def test_known_settings_are_accepted():
    check_overrides(parse_overrides(["trainer.epochs=3", "agent.hidden_sizes=[64, 64]", "online.train.epochs=1"]))


def test_the_time_of_a_missing_run_is_that_of_stored_ones(tmp_path):
    store = Store(tmp_path / "learn.jsonl")
    store.append(record("sb3-ppo", "racing", [0.1, 0.2], cpu_s=120.0))
    here = Run("sb3-ppo", "default", (), "racing", 4, Sizes(), 1, 1)
    unknown = Run("crossq", "default", (), "racing", 4, Sizes(), 1, 1)
    assert estimated_cpu_s(here, store.records) == pytest.approx(240.0)
    assert estimated_cpu_s(unknown, store.records) is None
    lines = list_missing([here, unknown], store)
    assert "4.0 min" in lines[0]
    assert lines[-1] == "2 runs are missing: about 4 min of CPU time, and 1 runs of unknown time"


def filled_store(path):
    store = Store(path)
    for seed in range(3):
        store.append(record("untrained", "racing", [0.2] * 3, seed=seed))
        store.append(record("sb3-ppo", "racing", [0.04 * k for k in range(20)], seed=seed))
        store.append(record("hotlap-v2", "racing", [0.05 * k for k in range(20)], seed=seed, label="a"))
    return store


def test_the_tables_and_the_picture_show_every_contender(tmp_path):
    store = filled_store(tmp_path / "learn.jsonl")
    selection = Selection(("hotlap-v2",), Sizes(), None)
    text = report.markdown(store, ["racing", "Acrobot-v1"], selection)
    assert "| hotlap-v2 a | 1 | 3 |" in text
    assert "| racing, 20 cycles, reward per step | 0.200 | 0.720 (0.95) | 0.900 (0.80) |" in text
    assert "Environments for the report" not in text
    root = ET.fromstring(report.picture(store, selection))
    labels = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"racing", "sb3-ppo", "hotlap-v2 a"} <= set(labels)
    overall = overall_curves(selection.records(store, ["racing"]))
    assert set(overall) == {"sb3-ppo", "hotlap-v2 a"}
    assert overall["sb3-ppo"][-1] == pytest.approx((100.0, (0.76 - 0.2) / (0.72 - 0.2)))


def test_single_runs_have_no_interval(tmp_path):
    store = Store(tmp_path / "learn.jsonl")
    store.append(record("untrained", "racing", [0.2] * 3))
    store.append(record("sb3-ppo", "racing", [0.04 * k for k in range(20)]))
    text = report.markdown(store, ["racing"], Selection((), Sizes(), None))
    assert "**1.00** (single runs)" in text
    assert " to " not in text.split("| sb3-ppo |")[1].split("\n")[0]


def parsed(*words):
    parser = argparse.ArgumentParser()
    cli.add_to(parser.add_subparsers())
    return parser.parse_args(["learn", *words])


def test_the_half_for_the_report_is_not_measured_by_default(capsys, tmp_path):
    arguments = parsed("--list", "--store", str(tmp_path / "none.jsonl"), "--seeds", "0")
    assert arguments.run(arguments) == 0
    listed = capsys.readouterr().out
    assert "Pendulum-v1" in listed
    assert "Hopper-v5" not in listed


def test_a_label_that_has_other_settings_in_the_store_is_refused(capsys, tmp_path):
    filled_store(tmp_path / "learn.jsonl")
    words = ["--store", str(tmp_path / "learn.jsonl"), "--label", "a", "--set", "trainer.epochs=3", "--list"]
    arguments = parsed(*words)
    with pytest.raises(SystemExit):
        arguments.run(arguments)
    assert "'a' and other settings" in capsys.readouterr().err
