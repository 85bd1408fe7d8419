"""Exporter health: the trainers' notices of the last cycles about the engine's data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.rollout.meaning.separation import REMEDY
from schemas.rollout.rollout import Recovered


@dataclass(frozen=True, slots=True)
class Check:
    """One property of the exported data."""

    topic: str
    codes: tuple[str, ...]  #: of the trainer's notices
    fine: str
    remedy: str
    expected: tuple[str, ...] = ()  #: notices that are not a fault


CHECKS = (
    Check(
        "log_prob",
        ("W_LOGP_BROKEN", "W_LOGP_MISMATCH"),
        "the recorded log_probs fit the published models",
        "record the log density of the clamped action under the loaded model: see `hotlap docs other-engine`",
        expected=("W_STRANGER", "W_EARLY_ROLLOUTS"),
    ),
    Check(
        "observations",
        ("W_DEAD_OBSERVATION",),
        "every observation changes",
        "check the sensors with these numbers, and remove those that can never change",
    ),
    Check(
        "range of the numbers",
        ("W_OBSERVATION_RANGE", "W_OUTLIERS"),
        "no number is sometimes far larger than usual",
        "correct or clamp it in the engine; agent.observation_limit in daemon.toml clamps observations",
    ),
    Check(
        "critic observations",
        ("W_CRITIC_OBSERVATIONS",),
        "every new rollout has the same number of them, or none has any",
        "write the same number in every file of every client: see `hotlap docs formats`",
    ),
    Check(
        "finite values",
        ("W_LEFT_OUT",),
        "all values are finite",
        "check the engine for a division by zero: steps with nan or inf are left out",
    ),
    Check("actions", ("W_ACTION_BOUNDS",), "all actions are within their bounds", "record actions after clamping"),
    Check(
        "rewards",
        ("W_CONSTANT_REWARD", "W_SPARSE_REWARD", "W_REWARD_SCALE"),
        "they vary and have a usual size",
        "reward better behaviour with more, at about 0.01 to 100 per step",
    ),
    Check(
        "staleness",
        ("W_STALE",),
        "the engine uses the newest model",
        "let the engine read best_model_path.txt more often, or collect more rollouts per cycle",
    ),
)


def judge_exporter(
    check: Check, cycles: Sequence[int], notices: Mapping[int, Mapping[str, str]]
) -> tuple[str, str] | None:
    """Return (level, text) for one check over these cycles, oldest first, or None without cycles."""
    if not cycles:
        return None
    for level, codes in (("wrong", check.codes), ("note", check.expected)):
        reported = [(cycle, code) for cycle in cycles for code in codes if code in notices.get(cycle, {})]
        if reported:
            cycle, code = reported[-1]
            is_over = cycle != cycles[-1]
            text = f"cycle {cycle}: {notices[cycle][code]} [{code}]"
            if is_over:
                return "note", f"{text}; not reported since"
            return level, text if level == "note" else f"{text} -> {check.remedy}"
    return "ok", f"{check.fine} (last {len(cycles)} cycle{'s' if len(cycles) > 1 else ''})"


def judge_agents(recovered: Mapping[str, Recovered]) -> tuple[str, str]:
    """Return (level, text) about the files whose agents had to be separated."""
    if not recovered:
        return "ok", "no agents share an agent_index"
    lowest = min(recovered, key=lambda name: recovered[name].confidence)
    agents = max(one.agents for one in recovered.values())
    text = (
        f"about {agents} agents share an agent_index: which row belongs to which was recovered in the last"
        f" {len(recovered)} such files, confidence {recovered[lowest].confidence:.2f} ({lowest}) to"
        f" {max(one.confidence for one in recovered.values()):.2f} -> {REMEDY}"
    )
    return "wrong", f"{text} [W_AGENTS_MIXED]"
