"""Without repeated experiences, the others have the advantages that they have in one long file."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from schemas.errors import RolloutError
from schemas.job import RolloutInput
from schemas.rollout.cache import store_rollout
from schemas.rollout.meaning.rules import NO_RULES
from schemas.rollout.repeats import RowSummary, find_repeats, rows_from_text, without_rows
from schemas.rollout.rollout import Rollout
from tests.helpers import make_rollout
from trainer.common.prefetch_cache import PrefetchCache
from trainer.common.reporting.reporter import MemoryReporter, Notices
from trainer.rollouts.advantages import advantages
from trainer.rollouts.experiences import by_agent, next_values
from trainer.rollouts.loading import load_rollouts


def part(rollout: Rollout, rows) -> Rollout:
    columns = [f.name for f in dataclasses.fields(rollout) if isinstance(getattr(rollout, f.name), np.ndarray)]
    columns = [name for name in columns if not name.startswith("final_")]
    return dataclasses.replace(rollout, **{name: getattr(rollout, name)[rows] for name in columns})


def advantage_of(rollout: Rollout) -> dict[bytes, float]:
    """Return the advantages of the experiences that can be learned from, by their observations."""
    e = by_agent(rollout)
    value_B = e.observation_BO[:, 0].astype(np.float64)  # any function of the state
    found = advantages(
        reward_B=e.reward_B.astype(np.float64),
        value_B=value_B,
        next_value_B=next_values(e, value_B, np.zeros(len(e.final_observation_FO))),
        trace_continues_B=e.trace_continues_B,
        rho_B=np.ones(e.size),
        gamma=0.97,
        lam=0.9,
    )
    return {row.tobytes(): float(found[k]) for k, row in enumerate(e.observation_BO) if e.can_bootstrap_B[k]}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "rows_of",
    [
        lambda k: slice(0, 120 * (k + 1)),
        lambda k: slice(max(0, 120 * k - 200), 120 * (k + 1)),
        lambda k: np.repeat(np.arange(120 * k, 120 * (k + 1)), 3),
    ],
    ids=["cumulative", "sliding window", "each stored three times"],
)
def test_new_experiences_have_the_advantages_of_the_long_file(rows_of, seed):
    game = make_rollout(n=480, seed=seed, agents=5)
    known: list[RowSummary] = []
    learned: list[dict[bytes, float]] = []
    for k in range(4):
        file = part(game, rows_of(k))
        summary = RowSummary.of(f"{k}", file)
        found = find_repeats(summary, known)
        known.append(summary)
        left = without_rows(file, rows_from_text(found.rows, file.size)) if found.count else file
        learned.append(advantage_of(left))
        in_the_file = advantage_of(part(game, np.unique(np.arange(480)[rows_of(k)])))
        assert learned[-1].items() <= in_the_file.items()
    keys = [key for one in learned for key in one]
    assert len(keys) == len(set(keys)), "no experience is learned from twice"
    overlapping = isinstance(rows_of(1), slice)
    lost = len(advantage_of(game)) - len(keys)
    assert lost == 0 if overlapping else lost <= 3 * 5, "the last of each agent in a file has no next state"


def entries_of(folder, *rollouts: Rollout, repeated=None) -> list[RolloutInput]:
    made = []
    for k, rollout in enumerate(rollouts):
        store_rollout(folder / f"{k}", rollout)
        made.append(
            RolloutInput(
                name=f"rollout_{k}.json",
                sha256="",
                source="",
                cache=str(folder / f"{k}"),
                is_new=True,
                repeated=repeated,
            )
        )
    return made


def test_without_a_daemon_repeated_experiences_are_found_here(tmp_path):
    game = make_rollout(n=384)
    reporter = MemoryReporter()
    entries = entries_of(tmp_path, *(part(game, slice(0, 128 * k)) for k in (1, 2, 3)), game)
    loaded = load_rollouts(entries, NO_RULES.for_contract(game.contract, "model"), Notices(reporter), PrefetchCache())
    assert len(loaded) == 4
    assert [item.rollout.size - 128 <= 4 for item in loaded[:3]] == [True] * 3
    assert loaded[3].rollout.size == 384, "the same play again is not a repetition"
    assert reporter.codes() == ["W_CUMULATIVE"]


def test_repetitions_of_another_file_are_an_error_of_that_rollout(tmp_path):
    entries = entries_of(tmp_path, make_rollout(n=64), repeated="AAAA")
    with pytest.raises(RolloutError, match="E_REPLACED"):
        load_rollouts(
            entries, NO_RULES.for_contract(make_rollout().contract, "model"), Notices(MemoryReporter()), PrefetchCache()
        )
