"""Which cycle folders a daemon keeps: the newest, and the one whose model earned the most."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import orjson

from tests.faults.support.site import Site
from tests.helpers import drop, make_rollout, v1_document

OLD_S = 1_000_000_000.0


def drop_with_reward(site: Site, number: int, reward: float) -> None:
    rollout = make_rollout(seed=number)
    rollout = dataclasses.replace(rollout, rewards=np.full(rollout.size, reward, dtype=np.float32))
    drop(site.layout.exports, number, orjson.dumps(v1_document(rollout)))


def test_the_cycle_whose_model_earned_the_most_is_kept_however_old(tmp_path):
    best, last = 2, 9
    with Site(tmp_path, keep_cycles=5) as site:
        site.until_version(0)
        for cycle in range(1, last + 1):
            for folder in site.layout.models.glob("cycle_*"):
                os.utime(folder, (OLD_S, OLD_S))  # nothing younger than an hour is removed
            for number in (2 * cycle, 2 * cycle + 1):  # rollouts of the model of the cycle before
                drop_with_reward(site, number, 5.0 if cycle - 1 == best else 0.1)
            site.until_version(cycle)
        site.until(lambda: not site.runner.busy)
        kept = sorted(int(folder.name.removeprefix("cycle_")) for folder in site.layout.models.glob("cycle_*"))
    assert kept == [best, *range(last - 4, last + 1)]
