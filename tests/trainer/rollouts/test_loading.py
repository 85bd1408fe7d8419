"""The choice of old rollouts, rollouts that cannot be read, and held-out segments."""

import dataclasses
from pathlib import Path

import numpy as np
import orjson
import pytest

from schemas.contract import PolicyContract
from schemas.errors import RolloutError
from schemas.job import RolloutInput
from schemas.rollout.cache import store_rollout
from schemas.rollout.meaning.rules import NO_RULES
from schemas.rollout.reader import read_rollout
from schemas.rollout.v2 import rollout_to_v2
from schemas.storage.files import sha256_of
from tests.cars import shared_index_rollout
from tests.faults.support.cache_files import wrong_files
from tests.helpers import v1_bytes, v1_document
from tests.trainer.toy import STEER, columns
from trainer.common.prefetch_cache import PrefetchCache
from trainer.common.reporting.reporter import MemoryReporter, Notices
from trainer.rollouts.holdout import choose_held_out
from trainer.rollouts.loading import choose_rollouts, load_replay, load_rollouts, prefetch_rollout


def rollouts(new, old):
    fresh = [RolloutInput(name=f"n{i}", sha256="", source="", cache="", is_new=True) for i in range(new)]
    used = [RolloutInput(name=f"o{i}", sha256="", source="", cache="", is_new=False, age=i // 10) for i in range(old)]
    return [*fresh, *used]


def names(chosen):
    return [r.name for r in chosen]


def test_all_new_rollouts_and_a_bounded_share_of_the_old_ones_are_chosen():
    chosen = choose_rollouts(rollouts(10, 1000), history_ratio=0.25, seed=0, cycle=3)
    assert names(chosen)[:10] == [f"n{i}" for i in range(10)]
    assert len(chosen) == 13
    assert len(set(names(chosen))) == 13


def test_the_same_seed_chooses_the_same_and_another_cycle_others():
    entries = rollouts(10, 1000)
    assert choose_rollouts(entries, history_ratio=1, seed=0, cycle=1) == choose_rollouts(
        entries, history_ratio=1, seed=0, cycle=1
    )
    assert choose_rollouts(entries, history_ratio=1, seed=0, cycle=1) != choose_rollouts(
        entries, history_ratio=1, seed=0, cycle=2
    )


def test_younger_rollouts_are_likelier():
    ages = [
        r.age
        for c in range(200)
        for r in choose_rollouts(rollouts(4, 100), history_ratio=0.5, seed=0, cycle=c)
        if not r.is_new
    ]
    assert 1.5 < np.mean(ages) < 3.6  # 4.5 if all were equally likely


@pytest.mark.parametrize(
    ("new", "old", "ratio", "expected"), [(3, 0, 1.0, 3), (3, 5, 0.0, 3), (3, 1, 5.0, 4), (0, 50, 0.25, 10)]
)
def test_how_many_are_chosen(new, old, ratio, expected):
    assert len(choose_rollouts(rollouts(new, old), history_ratio=ratio, seed=0, cycle=1)) == expected


def test_without_new_rollouts_the_youngest_are_chosen():
    assert {r.age for r in choose_rollouts(rollouts(0, 50), history_ratio=0.25, seed=0, cycle=1)} == {0}


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.89])
@pytest.mark.parametrize("sizes", [[7] * 40, [200, 1, 1, 1], [100], [1, 1], [2], [30, 500, 2, 90, 4]], ids=str)
def test_whole_segments_are_held_out_and_some_are_trained_on(sizes, fraction):
    segment_B = np.repeat(np.arange(len(sizes)), sizes)
    held = choose_held_out(segment_B, fraction, np.random.default_rng(0))
    assert 0 < held.sum() < len(segment_B)
    touched = [held[segment_B == s].mean() for s in range(len(sizes))]
    assert sum(0 < t < 1 for t in touched) <= 1  # only if no whole segment can be held out


def test_about_the_requested_fraction_is_held_out():
    segment_B = np.repeat(np.arange(200), 50)
    assert choose_held_out(segment_B, 0.1, np.random.default_rng(1)).mean() == pytest.approx(0.1, abs=0.03)


CONTRACT = PolicyContract(observation_size=4, action_space=STEER)


def stored(folder, name, rollout):
    data = rollout_to_v2(rollout, rollout_id=name, base64_columns=True)
    (folder / f"{name}.json").write_bytes(data)
    store_rollout(folder / name, rollout)
    known = {"sha256": sha256_of(data), "source": str(folder / f"{name}.json"), "cache": str(folder / name)}
    return RolloutInput(name=name, is_new=True, **known)


def load(*entries):
    """Return the loaded rollouts' names and the notices."""
    reporter = MemoryReporter()
    loaded = load_rollouts(entries, NO_RULES.for_contract(CONTRACT, "model"), Notices(reporter), PrefetchCache())
    return [item.entry.name for item in loaded], [event.message for event in reporter.events]


def test_a_rollout_that_cannot_be_used_is_left_out_with_the_reason(tmp_path):
    good, other = stored(tmp_path, "good", columns(8)), stored(tmp_path, "other", columns(8, observation_size=9))
    names, notices = load(good, other)
    assert names == ["good"]
    text = "1 of 2 rollouts are left out (other): other cannot be used: it has 9 observations instead of 4"
    assert notices == [f"{text} (in the published model)"]


def replay(most, *entries):
    recorder = MemoryReporter()
    loaded = load_replay(entries, most, NO_RULES, Notices(recorder), PrefetchCache())
    return sorted((item.entry.name, item.entry.is_new) for item in loaded), recorder.codes()


def aged(folder, name, age, n=40):
    entry = stored(folder, name, columns(n, seed=int(name[1:])))
    return entry.model_copy(update={"is_new": age == 0, "age": age})


def test_replay_data_are_all_new_rollouts_and_the_youngest_old_ones_up_to_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("trainer.rollouts.loading._FILES_READ_TOGETHER", 2)
    new = [aged(tmp_path, f"n{i}", 0) for i in range(2)]
    old = [aged(tmp_path, f"o{i}", age) for i, age in enumerate((5, 1, 4, 2, 3))]
    both = [("n0", True), ("n1", True)]
    assert replay(1, *old, *new) == (both, [])
    assert replay(81, *old, *new) == ([*both, ("o1", False), ("o3", False)], [])
    assert replay(10**6, *old, *new)[0] == [*both, *((f"o{i}", False) for i in range(5))]


def test_old_rollouts_that_cannot_be_read_are_left_out_of_the_replay_data(tmp_path):
    gone = aged(tmp_path, "o1", 1).model_copy(update={"cache": "", "source": str(tmp_path / "nowhere")})
    found, codes = replay(10**6, aged(tmp_path, "n0", 0), gone, aged(tmp_path, "o2", 2))
    assert (found, codes) == ([("n0", True), ("o2", False)], ["W_ROLLOUT_SKIPPED"])
    assert replay(10**6, aged(tmp_path, "n0", 0), gone) == ([("n0", True)], ["W_ROLLOUT_SKIPPED"])


def test_if_no_rollout_is_new_the_ten_youngest_count_as_new(tmp_path):
    found, _ = replay(10**6, *(aged(tmp_path, f"o{i:02}", 1 + i) for i in range(12)))
    assert [is_new for _, is_new in found] == [True] * 10 + [False] * 2


def missing(folder):
    return RolloutInput(name="missing", sha256="", source=str(folder / "gone.json"), cache="", is_new=True)


def replaced(folder):
    (folder / "replaced.json").write_bytes(v1_bytes())
    sha256 = sha256_of(b"the content that was counted")
    return RolloutInput(name="replaced", sha256=sha256, source=str(folder / "replaced.json"), cache="", is_new=True)


def of_another_game(folder):
    return stored(folder, "other", columns(8, observation_size=9))


UNUSABLE = {
    "none given": ([], "E_NO_ROLLOUTS", "the job has no rollout to train on"),
    "the only one is missing": ([missing], "E_OS", "missing cannot be read: "),
    "the only one was replaced": (
        [replaced],
        "E_REPLACED",
        "replaced cannot be used: the content of its file has changed",
    ),
    "the last one is of another game": ([missing, of_another_game], "E_CONTRACT", "other cannot be used: it has 9 obs"),
}


@pytest.mark.parametrize(("makers", "code", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_without_a_usable_rollout_the_error_has_the_code_of_the_cause(tmp_path, makers, code, words):
    with pytest.raises(RolloutError) as error:
        load(*(make(tmp_path) for make in makers))
    assert error.value.code == code
    assert error.value.message.startswith(words)
    assert str(error.value).count("[E_") == 1


@pytest.mark.parametrize("space", [b"", b"\n", b" \r\n"], ids=repr)
def test_a_file_is_recognised_by_the_hash_of_all_its_bytes(tmp_path, space):
    """Also if it ends with spaces, as engines write them."""
    path = tmp_path / "rollout.json"
    path.write_bytes(v1_bytes() + space)
    sha256 = sha256_of(path.read_bytes())
    entry = RolloutInput(name="rollout", sha256=sha256, source=str(path), cache="", is_new=True)
    rules = NO_RULES.for_contract(read_rollout(path.read_bytes()).contract, "model")
    [item] = load_rollouts([entry], rules, Notices(MemoryReporter()), PrefetchCache())
    assert item.entry == entry


def test_arrays_that_were_read_under_other_rules_are_not_used(tmp_path):
    """Also not those that a warm trainer has prefetched."""
    entry, cache = stored(tmp_path, "one", columns(8)), PrefetchCache()
    rules = NO_RULES.for_contract(CONTRACT, "model")
    limited = rules.model_copy(update={"observation_limit": 0.5})
    prefetch_rollout(entry, rules, cache)
    [item] = load_rollouts([entry], limited, Notices(MemoryReporter()), cache)
    assert np.abs(item.rollout.observations).max() == 0.5


@pytest.mark.fault(85)
def test_stored_arrays_with_wrong_content_are_replaced_by_those_of_the_file(tmp_path):
    good = columns(16)
    entry = stored(tmp_path, "one", good)
    rules = NO_RULES.for_contract(CONTRACT, "model")
    other = dataclasses.replace(good, rewards=good.rewards + 1)
    store_rollout(Path(entry.cache), other)
    [item] = load_rollouts([entry], rules, Notices(MemoryReporter()), PrefetchCache())
    np.testing.assert_array_equal(item.rollout.rewards, other.rewards)  # possible arrays are used
    for data in wrong_files(good).values():
        Path(entry.cache).write_bytes(data)
        [item] = load_rollouts([entry], rules, Notices(MemoryReporter()), PrefetchCache())
        np.testing.assert_array_equal(item.rollout.observations, good.observations)
        np.testing.assert_array_equal(item.rollout.rewards, good.rewards)


def test_rollouts_whose_agents_share_an_index_are_separated_and_reported_once(tmp_path):
    entries = []
    for seed in (1, 2):
        path = tmp_path / f"rollout_{seed}.json"
        path.write_bytes(orjson.dumps(v1_document(shared_index_rollout(seed=seed))))
        sha256 = sha256_of(path.read_bytes())
        entries.append(RolloutInput(name=path.name, sha256=sha256, source=str(path), cache="", is_new=True))
    recorder = MemoryReporter()
    loaded = load_rollouts(entries, NO_RULES, Notices(recorder), PrefetchCache())
    assert all(len(set(item.rollout.agents.tolist())) >= 6 for item in loaded)
    assert recorder.codes() == ["W_AGENTS_MIXED"]
    assert "2 of 2 rollouts" in recorder.events[0].message
