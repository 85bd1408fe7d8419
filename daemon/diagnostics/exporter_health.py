"""How well the exporter does its work: judge what the last cycles' trainers noticed in its data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that can be wrong with what an exporter writes."""

    topic: str
    codes: tuple[str, ...]  #: of the trainer's notices
    fine: str
    remedy: str
    expected: tuple[str, ...] = ()  #: notices that are no fault


CHECKS = (
    Check(
        "log_prob",
        ("W_LOGP_BROKEN", "W_LOGP_MISMATCH"),
        "the recorded log_probs fit the published models",
        "record the log density of the clamped action under the model that is loaded (docs/client.md)",
        expected=("W_STRANGER",),
    ),
    Check(
        "observations",
        ("W_DEAD_OBSERVATION",),
        "every observation changes",
        "look at the sensors with these numbers; one that can never change is better left out",
    ),
    Check(
        "finite values",
        ("W_LEFT_OUT",),
        "all values are finite",
        "look in the engine for a division by zero: what is nan or inf teaches nothing",
    ),
    Check("actions", ("W_ACTION_BOUNDS",), "all actions lie within their bounds", "record actions after clamping"),
    Check(
        "agents",
        ("W_AGENTS_MIXED",),
        "each agent's steps follow each other",
        "give each agent its own agent_index, the same one through the whole file",
    ),
    Check(
        "rewards",
        ("W_CONSTANT_REWARD", "W_REWARD_SCALE"),
        "they vary, and have a usual size",
        "give more for what is better, in numbers of about 0.01 to 100 a step",
    ),
    Check(
        "staleness",
        ("W_STALE",),
        "the engine plays the newest model",
        "let the engine look at best_model_path.txt more often, or make cycles shorter than the play between them",
    ),
)


def judge(check: Check, cycles: Sequence[int], notices: Mapping[int, Mapping[str, str]]) -> tuple[str, str] | None:
    """Return (level, text) for one check over these training cycles, oldest first; None where there was none."""
    if not cycles:
        return None
    for level, codes in (("wrong", check.codes), ("note", check.expected)):
        seen = [(cycle, code) for cycle in cycles for code in codes if code in notices.get(cycle, {})]
        if seen:
            cycle, code = seen[-1]
            is_over = cycle != cycles[-1]
            text = f"cycle {cycle}: {notices[cycle][code]} [{code}]"
            if is_over:
                return "note", f"{text}; not seen since"
            return level, text if level == "note" else f"{text} -> {check.remedy}"
    return "ok", f"{check.fine} (last {len(cycles)} cycle{'s' if len(cycles) > 1 else ''})"
