"""Change rollouts, ledgers, files of the cache or folders of models at random, and check every result against rules.

python -m scripts.faults.fuzz --seconds 180                  mutated rollouts; files that break a rule are kept
python -m scripts.faults.fuzz --what ledger --seconds 180    also: cache, models
python -m scripts.faults.fuzz --what ledger --seed 7 --case 12    repeat one case of a run

Exit code 1 if a rule was broken.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import logging
import random
import re
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Protocol

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
from scripts.faults.lib.fuzzing.project import Case
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
        kinds = (np.float32, np.float64) if "observations" in name else (np.float32,)  # of a clock, all digits count
        if column.dtype not in kinds or not (np.abs(column) <= MAX_MAGNITUDE).all():
            broken.append(f"{name} is not all finite numbers of the right type")
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
    """Check changed files for some time; return 1 if a rule was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("rollouts", *_KINDS), default="rollouts", help="what is changed (rollouts)")
    parser.add_argument("--seconds", type=float, default=180.0, metavar="N", help="how long (180)")
    parser.add_argument("--seed", type=int, default=None, metavar="S", help="to repeat a run")
    parser.add_argument("--case", type=int, default=None, metavar="K", help="check only case K of a seed")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    with _without_log(), tempfile.TemporaryDirectory() as folder:
        cases = RolloutCases() if options.what == "rollouts" else _cases(options.what, Path(folder).resolve())
        return _run(cases, options.what, options.seconds, seed, options.case)


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keep the log lines of the checked programs from the console."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


class Cases(Protocol):
    """What is changed and checked."""

    unit: str

    def check(self, rng: random.Random) -> Case:
        """Check one case."""


class RolloutCases:
    """Mutated rollouts. Files that break a rule are kept in the corpus."""

    unit = "files"

    def __init__(self) -> None:
        self._pool = [*seeds() * 10, *(path.read_bytes() for path in sorted(CORPUS.iterdir()))]

    def check(self, rng: random.Random) -> Case:
        """Check one file."""
        data = mutated(rng, self._pool)
        outcome, broken = check_file(data)
        name = f"find-{hashlib.sha256(data).hexdigest()[:12]}.bin"
        return Case(outcome, broken, f"{name} ({len(data)} bytes)", keep=(CORPUS / name, data))


_KINDS = ("ledger", "cache", "models")


def _cases(what: str, folder: Path) -> Cases:
    from scripts.faults.lib.fuzzing.cache_cases import CacheCases
    from scripts.faults.lib.fuzzing.ledger_cases import LedgerCases
    from scripts.faults.lib.fuzzing.model_folder_cases import ModelFolderCases

    kinds: dict[str, Callable[[Path], Cases]] = {
        "ledger": LedgerCases,
        "cache": CacheCases,
        "models": ModelFolderCases,
    }
    return kinds[what](folder)


def _run(cases: Cases, what: str, seconds: float, seed: int, only: int | None) -> int:
    """Check cases until the time is over, or one case."""
    outcomes: Counter[str] = Counter()
    findings: set[str] = set()

    def counts() -> str:
        of_each = ", ".join(f"{code} {count:,}" for code, count in outcomes.most_common())
        return f"seed {seed}: {outcomes.total():,} {cases.unit}, {len(findings)} rules broken; {of_each}"

    end = time.monotonic() + seconds
    with Progress(f"fuzz of {what}", unit=cases.unit, total_s=seconds) as progress:
        progress.summary = counts
        numbers = itertools.count() if only is None else iter([only])
        for number in itertools.takewhile(lambda _: time.monotonic() < end, numbers):
            case = cases.check(random.Random(f"{seed} {number}"))
            outcomes[case.outcome] += 1
            progress.advance(violations=case.broken[:1])
            if case.broken and (kind := _kind_of(case.broken[0])) not in findings:
                findings.add(kind)
                if case.keep is not None:
                    case.keep[0].write_bytes(case.keep[1])
                sys.stdout.write(f"case {number}: {case.what}: {'; '.join(case.broken)}\n")
                sys.stdout.flush()
            elif only is not None:
                sys.stdout.write(f"case {number}: {case.what}: {case.outcome}\n")
    sys.stdout.write(f"{counts()}\n")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
