"""The commands for checkpoints: rank the checkpoints of a folder, export the best one, convert one."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from schemas.errors import ConfigError, HotlapError, ModelError, RolloutError
from schemas.job import ExitCode
from schemas.model import MAX_MODEL_BYTES, PROBE_SIZE
from schemas.program.parser import CommandParser
from schemas.rollout.meaning.rules import NO_RULES, ReadingRules
from schemas.rollout.reader import read_rollout
from schemas.rollout.rollout import MAX_ROLLOUT_BYTES, Rollout
from schemas.settings.loading import load_settings
from schemas.settings.models import AgentSettings, TrainerSettings
from schemas.storage.files import read_with_retries, write_atomic
from schemas.storage.set_aside import ANALYSIS_NAME, keep_foreign
from schemas.storage.windows_paths import absolute_path, engine_path, error_text, shown_path
from trainer.checkpoints.checkpoint import Checkpoint, checkpoint_from, load_document
from trainer.checkpoints.export import export
from trainer.checkpoints.output import Output
from trainer.checkpoints.policy import CheckpointPolicy
from trainer.checkpoints.selection import CheckpointCandidate, RankedCheckpoint, analysis, choose, rank
from trainer.common.exit_codes import failure_of
from trainer.common.reporting.console import ConsoleReporter, print_error
from trainer.common.reporting.reporter import Notices
from trainer.rollouts.advantages import average_returns
from trainer.rollouts.experiences import by_agent, concatenate
from trainer.train_cli import contract_for, rollouts_in
from trainer.worker.jobs import candidates_in

MODELS = Path("Saved/Training/Models")
EXPORTS = Path("Saved/Training/Exports")


def find_best(argv: Sequence[str], *, prog: str = "find_best_model.py") -> int:
    """Rank the checkpoints of a folder and write model_analysis.json."""
    p = CommandParser(prog=prog, description="Rank a folder's checkpoints and write model_analysis.json there.")
    p.add_argument(
        "--model-dir", type=Path, default=MODELS, help=f"folder with model_epoch_<k>.pt (default {MODELS.as_posix()})"
    )
    p.add_argument(
        "--export-dir", type=Path, default=EXPORTS, help=f"folder with rollouts (default {EXPORTS.as_posix()})"
    )
    p.add_argument(
        "--evaluate", action="store_true", help="measure value losses on rollouts, instead of using the recorded losses"
    )
    p.add_argument(
        "--test-split", type=float, default=0.2, help="fraction of the rollouts, the newest ones, to measure on (0.2)"
    )
    arguments = p.parse_args(argv)
    if not 0.0 < arguments.test_split <= 1.0:
        p.error("--test-split must be above 0 and at most 1")

    def work() -> None:
        rules = rules_for(arguments.model_dir, arguments.export_dir) if arguments.evaluate else NO_RULES
        test = newest(read_all(arguments.export_dir, rules), arguments.test_split) if arguments.evaluate else []
        ranked, chosen, reason = rank_folder(arguments.model_dir, test)
        reporter = ConsoleReporter()
        for place, one in enumerate(ranked, start=1):
            score = "-" if one.terms is None else f"{one.terms.total:.4f}"
            reporter.line(f"{place}. {one.candidate.name}  score {score}  {one.reason}")
        if chosen is not None and chosen is not ranked[0]:
            reporter.line(f"chosen: {chosen.candidate.name}, {reason}")

    return _run_command(work)


def find_and_export(argv: Sequence[str], *, prog: str = "find_and_export_best_model.py") -> int:
    """Export the best checkpoint, and write the path of its JSON to best_model_path.txt and stdout."""
    p = CommandParser(
        prog=prog,
        description="Export a folder's best checkpoint. The only line on stdout is the path of its model JSON.",
    )
    p.add_argument("model_dir", metavar="MODEL_DIR", type=Path, nargs="?", default=MODELS)
    p.add_argument(
        "export_dir",
        metavar="EXPORT_DIR",
        type=Path,
        nargs="?",
        default=EXPORTS,
        help="rollouts, for the probe",
    )
    arguments = p.parse_args(argv)

    def work() -> None:
        ranked, best, _ = rank_folder(arguments.model_dir, [])
        if best is None or best.terms is None:
            raise ModelError(f"no checkpoint can be used: {ranked[0].reason}", hint="train again", code="E_NO_MODEL")
        target = absolute_path(arguments.model_dir / f"model_epoch_{best.candidate.epoch}.json")
        checkpoint = with_probe(Output(arguments.model_dir).checkpoint(best.candidate.name, None), arguments.export_dir)
        version = checkpoint.lineage.cycle
        keep_foreign(arguments.model_dir, lambda path: path.name == target.name, at_s=time.time())
        write_atomic(target, export(checkpoint, policy_version=version, score=best.terms.total))
        write_atomic(arguments.model_dir / "best_model_path.txt", engine_path(target).encode())
        print(engine_path(target))

    return _run_command(work)


def export_one(argv: Sequence[str], *, prog: str = "export_model_for_unreal.py") -> int:
    """Convert one checkpoint."""
    p = CommandParser(prog=prog, description="Convert a checkpoint to model JSON.")
    p.add_argument("source", metavar="IN.pt", type=Path)
    p.add_argument("target", metavar="OUT.json", type=Path)
    arguments = p.parse_args(argv)

    def work() -> None:
        if not arguments.source.is_file():
            raise ModelError(
                f"the checkpoint {shown_path(arguments.source)} does not exist",
                hint="name an existing model_epoch_<k>.pt",
            )
        data = read_with_retries(arguments.source, limit=MAX_MODEL_BYTES)
        checkpoint = checkpoint_from(load_document(data, arguments.source.name))
        write_atomic(arguments.target, export(checkpoint, policy_version=checkpoint.lineage.cycle))
        ConsoleReporter().line(f"wrote {shown_path(arguments.target)}")

    return _run_command(work)


def _run_command(work: Callable[[], None]) -> int:
    """Run a command and return its exit code; every failure is one line on stderr."""
    try:
        work()
    except Exception as error:  # noqa: BLE001
        code, failure = failure_of(error)
        print_error(f"error: {failure.message}")
        return int(ExitCode.NOTHING_TO_DO if failure.code == "E_NO_ROLLOUTS" else code)
    return 0


def rank_folder(
    model_dir: Path, test: Sequence[Rollout]
) -> tuple[list[RankedCheckpoint], RankedCheckpoint | None, str]:
    """Rank a folder's checkpoints by their recorded losses, or by those on `test`, and write model_analysis.json.

    Return the ranking, the chosen checkpoint, and the reason for the choice.
    """
    if not model_dir.is_dir():
        raise ModelError(
            f"the folder {shown_path(model_dir)} does not exist", hint="name the folder with model_epoch_<k>.pt"
        )
    output = Output(model_dir)
    entries = candidates_in(output, Notices(ConsoleReporter(sys.stderr)))
    if not entries:
        raise ModelError(
            f"{shown_path(model_dir)} does not contain a checkpoint",
            hint="train first, with `hotlap train`",
            code="E_NO_MODEL",
        )
    if test:
        entries = with_measured_losses(entries, output, test)
    ranked = rank(entries)
    chosen, reason = choose(ranked, 0)
    keep_foreign(model_dir, lambda path: path.name == ANALYSIS_NAME, at_s=time.time())
    output.write(ANALYSIS_NAME, analysis(ranked, chosen, reason))
    return ranked, chosen, reason


def with_measured_losses(
    entries: Sequence[CheckpointCandidate], output: Output, test: Sequence[Rollout]
) -> list[CheckpointCandidate]:
    """Return the candidates with value losses on the test rollouts in place of the recorded ones."""
    losses: list[float] = []
    result = []
    for entry in sorted(entries, key=lambda e: e.epoch):
        checkpoint = output.checkpoint(entry.name, test[0].contract)
        losses.append(value_loss_on(checkpoint, test, TrainerSettings().gamma))
        result.append(replace(entry, losses=tuple(losses), standard_error=0.0))
    return result


def value_loss_on(checkpoint: Checkpoint, rollouts: Sequence[Rollout], gamma: float) -> float:
    """Return the mean squared error of a checkpoint's values to the discounted returns, in variances of the returns.

    The returns do not depend on a checkpoint's values: if a trace is cut, the mean return is the bootstrap.
    """
    experiences = concatenate([by_agent(rollout) for rollout in rollouts])
    returns_B = average_returns(
        reward_B=experiences.reward_B.astype(np.float64),
        terminated_B=experiences.terminated_B,
        trace_continues_B=experiences.trace_continues_B,
        can_bootstrap_B=experiences.can_bootstrap_B,
        gamma=gamma,
    )
    value_B = CheckpointPolicy(checkpoint).value(experiences.observation_BO[experiences.can_bootstrap_B])
    spread = float(returns_B.var()) or 1.0
    return float(np.square(value_B - returns_B).mean()) / spread


def rules_for(model_dir: Path, export_dir: Path) -> ReadingRules:
    """Return the rules for reading the rollouts that a folder's checkpoints are measured on.

    They are those of the checkpoints' contract, or of most rollouts for checkpoints of another script, which have none,
    and of daemon.toml in the current folder. Settings that cannot be used are reported and not applied.
    """
    agent = AgentSettings()
    try:
        agent = load_settings(Path.cwd()).agent
    except ConfigError as error:
        print_error(f"note: the settings are not applied: {error}")
    rules = ReadingRules.of(agent)
    for path in sorted(model_dir.glob("model_epoch_*.pt")):
        document = load_document(read_with_retries(path, limit=MAX_MODEL_BYTES), path.name)
        if "contract" in document:
            return rules.for_contract(checkpoint_from(document).contract, "model")
    return rules.for_contract(contract_for(agent, rollouts_in(export_dir)), "rollouts")


def read_all(folder: Path, rules: ReadingRules = NO_RULES) -> list[Rollout]:
    """Read a folder's rollouts in the order of their names; one that cannot be used is reported and left out."""
    rollouts = []
    for entry in rollouts_in(folder):
        try:
            rollouts.append(read_rollout(read_with_retries(Path(entry.source), limit=MAX_ROLLOUT_BYTES), rules))
        except (HotlapError, OSError) as error:
            print_error(f"note: {entry.name} is left out: {error_text(error)}")
    if not rollouts:
        raise RolloutError(
            f"no rollout in {shown_path(folder)} can be read", hint="see `hotlap docs formats`", code="E_NO_ROLLOUTS"
        )
    return rollouts


def newest(rollouts: Sequence[Rollout], fraction: float) -> list[Rollout]:
    """Return the last fraction of the rollouts, at least one."""
    return list(rollouts[-max(1, round(fraction * len(rollouts))) :])


def with_probe(checkpoint: Checkpoint, export_dir: Path) -> Checkpoint:
    """Return the checkpoint with a probe of real observations, if it has none and a rollout fits it."""
    if checkpoint.probe_observations.numel():
        return checkpoint
    try:
        rollout = read_all(export_dir)[-1]
    except HotlapError:
        return checkpoint
    if rollout.contract.observation_size != checkpoint.contract.observation_size:
        return checkpoint
    return replace(checkpoint, probe_observations=torch.from_numpy(rollout.observations[:PROBE_SIZE].copy()))
