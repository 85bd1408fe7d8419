"""Read mutated rollouts, and check every result against rules.

python -m scripts.faults.fuzz --seconds 180    print the counts; files that break a rule are kept in the corpus
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import sys
import time
import traceback
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np

from schemas.contract import ContinuousActions
from schemas.errors import RolloutError
from schemas.rollout.duplicate_keys import require_unique_keys
from schemas.rollout.encoding import as_utf8, parse_text
from schemas.rollout.meaning.rules import NO_RULES
from schemas.rollout.reader import read_rollout
from schemas.rollout.rollout import MAX_MAGNITUDE, Rollout
from schemas.rollout.v1 import rollout_from_v1
from schemas.rollout.v1_fast import read_v1_fast
from scripts.faults.lib.mutations import mutated, seeds
from scripts.faults.lib.progress import Progress

CORPUS = Path(__file__).resolve().parents[2] / "tests" / "faults" / "corpus"
MAX_READ_S = 2.0
"""The longest time to read one small file on a busy machine."""
_CODE = re.compile(r"E_[A-Z]+")


def check_file(data: bytes) -> tuple[str, list[str]]:
    """Read a file; return the outcome (an error code or `ok`) and the broken rules."""
    began = time.monotonic()
    try:
        rollout = read_rollout(data)
    except RolloutError as error:
        outcome, broken = error.code, _broken_by_error(error)
    except Exception:  # noqa: BLE001  any exception is a finding
        outcome, broken = "raised", [traceback.format_exc()]
    else:
        outcome, broken = "ok", wrong_with_rollout(rollout)
        broken += _broken_by_truncation(data) + _broken_by_fast_reader(data)
    took_s = time.monotonic() - began
    if took_s > MAX_READ_S:
        broken.append(f"it took {took_s:.1f} s for {len(data)} bytes")
    return outcome, broken


def wrong_with_rollout(rollout: Rollout) -> list[str]:
    """Return the broken rules of an accepted rollout."""
    n, contract = rollout.size, rollout.contract
    width, finals = contract.action_space.width, len(rollout.final_agents)
    shapes = {
        "observations": (n, contract.observation_size),
        "actions": (n, width),
        "final_observations": (finals, contract.observation_size),
        "final_agents": (finals,),
    }
    critic = {"critic_observations": n, "final_critic_observations": finals}
    critic = {name: rows for name, rows in critic.items() if getattr(rollout, name) is not None}
    shapes |= {name: (rows, rollout.critic_width) for name, rows in critic.items()}
    flat = ("rewards", "terminated", "truncated", "log_probs", "values", "agents", "after_gap")
    shapes |= dict.fromkeys(flat, (n,))
    broken = [
        f"{k} has {getattr(rollout, k).shape}, not {v}" for k, v in shapes.items() if getattr(rollout, k).shape != v
    ]
    numbers = {k: getattr(rollout, k) for k in ("observations", "actions", "rewards", "values")}
    numbers["log_probs"] = rollout.log_probs[~np.isnan(rollout.log_probs)]
    numbers |= {"final_observations": rollout.final_observations, **rollout.reward_parts}
    for name in critic:
        column = getattr(rollout, name)
        numbers[name] = column[~np.isnan(column).all(axis=1)] if name.startswith("final_") else column
    for name, column in numbers.items():
        if column.dtype != np.float32 or not (np.abs(column) <= MAX_MAGNITUDE).all():
            broken.append(f"{name} is not all finite float32")
    broken += [f"{name} has {len(part)} rows" for name, part in rollout.reward_parts.items() if part.shape != (n,)]
    if n < 1 or rollout.left_out < 0:
        broken.append(f"{n} experiences, {rollout.left_out} left out")
    if len(set(rollout.final_agents.tolist())) != finals:
        broken.append("an agent has two final observations")
    if not isinstance(contract.action_space, ContinuousActions):
        choices = rollout.actions
        if not ((choices >= 0) & (choices < contract.action_space.n) & (choices == np.floor(choices))).all():
            broken.append("a choice is not a valid index")
    return broken


def _broken_by_error(error: RolloutError) -> list[str]:
    line = error.line()
    rules = {
        "its code is invalid": _CODE.fullmatch(error.code) is not None,
        "it is not printable": line.isprintable(),
        "it is too long": len(line) < 500,
        "it has no remedy": bool(error.hint),
    }
    return [f"{rule}: {line[:500]!r}" for rule, is_kept in rules.items() if not is_kept]


def _broken_by_truncation(data: bytes) -> list[str]:
    """Check that a truncated file is incomplete, not rejected."""
    cut = data[: data.rindex(b"}")]
    try:
        read_rollout(cut)
    except RolloutError as error:
        return [] if error.incomplete else [f"after truncation it does not count as incomplete: {error.line()}"]
    return ["after truncation it counts as complete"]


def _broken_by_fast_reader(data: bytes) -> list[str]:
    """Check that the fast reader of version 1 returns the same columns as the general one."""
    fast = read_v1_fast(data)
    if fast is None:
        return []
    try:
        text, document = parse_text(as_utf8(data))
        require_unique_keys(text, document)
        general = rollout_from_v1(document, NO_RULES)
    except RolloutError as error:
        return [f"only the fast reader accepts it: {error.line()}"]
    names = [field.name for field in fields(Rollout) if isinstance(getattr(general, field.name), np.ndarray)]
    different = [
        name
        for name in names
        if not np.array_equal(a := getattr(fast, name), getattr(general, name), equal_nan=a.dtype.kind == "f")
    ]
    return [f"the readers differ in {name}" for name in different]


def _kind_of(broken: str) -> str:
    """Return a text that is the same for findings with the same cause."""
    return re.sub(r"\d+|0x\w+|'.*?'", "", "".join(broken.splitlines()[-4:]))[:300]


def main(arguments: list[str] | None = None) -> int:
    """Read mutated files for some time; return 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180.0, metavar="N", help="how long (180)")
    parser.add_argument("--seed", type=int, default=None, metavar="S", help="to repeat a run")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    rng, valid = random.Random(seed), seeds()
    pool = [*valid * 10, *(path.read_bytes() for path in sorted(CORPUS.iterdir()))]
    outcomes: Counter[str] = Counter()
    findings: set[str] = set()

    def counts() -> str:
        of_each = ", ".join(f"{code} {count:,}" for code, count in outcomes.most_common())
        return f"seed {seed}: {outcomes.total():,} files, {len(findings)} rules broken; {of_each}"

    end = time.monotonic() + options.seconds
    with Progress("fuzz", unit="files", total_s=options.seconds) as progress:
        progress.summary = counts
        while time.monotonic() < end:
            data = mutated(rng, pool)
            outcome, broken = check_file(data)
            outcomes[outcome] += 1
            progress.advance(violations=broken[:1])
            if broken and (kind := _kind_of(broken[0])) not in findings:
                findings.add(kind)
                path = CORPUS / f"find-{hashlib.sha256(data).hexdigest()[:12]}.bin"
                path.write_bytes(data)
                sys.stdout.write(f"{path.name} ({len(data)} bytes): {'; '.join(broken)}\n")
    sys.stdout.write(f"{counts()}\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
