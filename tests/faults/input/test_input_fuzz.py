"""For every content of a file, the reader returns a valid rollout or raises a RolloutError.

`python -m scripts.faults.fuzz --seconds 180` is a longer run. What it finds is kept in `corpus`; the name of each file
there begins with the expected outcome.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.rollout.cache import load_rollout, store_rollout
from schemas.rollout.reader import read_rollout
from schemas.rollout.rollout import Rollout
from scripts.faults import fuzz
from scripts.faults.fuzz import CORPUS, check_file, wrong_with_rollout
from scripts.faults.lib import mutations

CORPUS_FILES = sorted(CORPUS.iterdir())
SEEDS = mutations.seeds()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.fault(18)
@pytest.mark.parametrize("path", CORPUS_FILES, ids=lambda path: path.stem)
def test_a_file_of_the_corpus_has_the_outcome_in_its_name(path, tmp_path):
    data = path.read_bytes()
    outcome, broken = check_file(data)
    assert broken == []
    assert outcome == path.stem.partition("-")[0]
    if outcome == "ok":
        store_rollout(tmp_path / "r.npz", read_rollout(data))
        assert isinstance(load_rollout(tmp_path / "r.npz"), Rollout)


def test_the_corpus_is_small():
    assert len(CORPUS_FILES) >= 80
    assert sum(path.stat().st_size for path in CORPUS_FILES) < 1_000_000
    assert max(path.stat().st_size for path in CORPUS_FILES) < 100_000


@pytest.mark.fault(18)
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.randoms(use_true_random=False))
def test_no_mutation_of_a_valid_file_breaks_a_rule(rng):
    assert check_file(mutations.mutated(rng, SEEDS))[1] == []


@pytest.mark.fault(18)
@settings(max_examples=300, deadline=None)
@given(VALUES, st.sampled_from(["state", "action", "reward", "experiences", "schema", "rewards", "action_space"]))
def test_no_value_in_any_place_breaks_a_rule(value, key):
    for seed in (SEEDS[1], SEEDS[2]):
        document = json.loads(seed)
        places = [document, *document.get("experiences", [])[:1]]
        for place in places:
            place[key] = value
        assert check_file(json.dumps(document).encode())[1] == []


def test_the_seeds_are_valid():
    assert [check_file(seed) for seed in SEEDS] == [("ok", [])] * len(SEEDS)


def test_the_check_finds_broken_rules(monkeypatch):
    rollout = read_rollout(SEEDS[0])
    good = {name: getattr(rollout, name) for name in Rollout.__slots__}
    assert wrong_with_rollout(rollout) == []
    bad = rollout.rewards.copy()
    bad[3] = float("nan")
    for change in ({"rewards": bad}, {"values": rollout.values[:-1]}, {"actions": rollout.actions[:, :1]}):
        assert wrong_with_rollout(Rollout(**(good | change))) != []

    def raises(data):
        raise KeyError("reward")

    monkeypatch.setattr(fuzz, "read_rollout", raises)
    outcome, [broken] = check_file(SEEDS[0])
    assert outcome == "raised"
    assert "KeyError" in broken


def test_the_command_counts_and_keeps_what_it_finds(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(fuzz, "CORPUS", tmp_path)
    assert fuzz.main(["--seconds", "0.3", "--seed", "1"]) == 0
    assert "0 rules broken" in capsys.readouterr().out
    real = fuzz.read_rollout

    def forgets(data):
        if b"nan" in data:
            raise ZeroDivisionError
        return real(data)

    monkeypatch.setattr(fuzz, "read_rollout", forgets)
    assert fuzz.main(["--seconds", "2", "--seed", "1"]) == 1
    [find] = tmp_path.iterdir()
    assert b"nan" in find.read_bytes()
    assert "ZeroDivisionError" in capsys.readouterr().out
