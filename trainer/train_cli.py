"""`hotlap train EXPORT_DIR MODEL_DIR [EPOCHS] [DEVICE]`: one training on a folder of rollouts, without a daemon."""

from __future__ import annotations

import argparse
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from schemas.contract import PolicyContract
from schemas.errors import ContractError, HotlapError, RolloutError
from schemas.job import ExitCode, Job, Result, RolloutInput
from schemas.program.parser import CommandParser, nearest
from schemas.rollout.meaning.majority import Vote, majority_of
from schemas.rollout.meaning.rules import ReadingRules
from schemas.rollout.reader import finished, parse_rollout
from schemas.rollout.rollout import MAX_ROLLOUT_BYTES
from schemas.settings.loading import load_settings
from schemas.settings.models import AgentSettings
from schemas.storage.files import read_with_retries, rename_with_retries, sha256_of, unlink_with_retries
from schemas.storage.layout import is_rollout_name
from schemas.storage.set_aside import MODEL_NAME, is_model_name, keep_foreign
from schemas.storage.windows_paths import absolute_path, engine_path, error_text, shown_path
from trainer.checkpoints.checkpoint import NAME, Checkpoint
from trainer.checkpoints.output import Output
from trainer.common.exit_codes import failure_of
from trainer.common.reporting.console import ConsoleReporter, print_error
from trainer.programs import PROGRAMS
from trainer.worker.jobs import run_job

_VOTERS = 50
"""How many rollouts, the newest ones, define the contract of a new network."""
_DESCRIPTION = """\
Train a policy on the rollouts in EXPORT_DIR. Writes model_epoch_1.pt ... model_epoch_<EPOCHS>.pt, the best epoch's
model_epoch_<k>.json and model_analysis.json to MODEL_DIR. If MODEL_DIR contains a trained model, training continues
from its best epoch."""
_EPILOG = """\
Settings come from daemon.toml in the current folder (or --config), then HOTLAP_ variables, then flags;
HOTLAP_TRAINER__GAMMA=0.995 sets one. Exit codes: 0 done, 2 bad arguments, 3 nothing to train on, 65 unusable data,
70 a bug, 75 out of memory or disk (try again), 78 bad settings, 130 stopped."""


def parser(prog: str) -> CommandParser:
    """Return the command line."""
    p = CommandParser(prog=prog, description=_DESCRIPTION, epilog=_EPILOG)
    p.add_argument("export_dir", metavar="EXPORT_DIR", type=Path, help="folder with rollout_*.json")
    p.add_argument("model_dir", metavar="MODEL_DIR", type=Path, help="folder of checkpoints and the model JSON")
    p.add_argument("epochs", metavar="EPOCHS", nargs="?", type=int, help="passes over the experiences (default 10)")
    p.add_argument("device", metavar="DEVICE", nargs="?", help="auto, cpu, cuda or cuda:1 (default auto)")
    p.add_argument("--seed", type=int, metavar="N", help="seed of all random numbers (default 0)")
    p.add_argument("--fresh", action="store_true", help="start with a new network, even if MODEL_DIR has a model")
    p.add_argument("--batch-size", type=int, metavar="N", help="experiences in a gradient step (default 64)")
    p.add_argument("--learning-rate", type=float, metavar="X", help="Adam's step size (default 3e-4)")
    p.add_argument("--config", type=Path, metavar="FILE", help="a daemon.toml (default: that of the current folder)")
    return p


def main(argv: Sequence[str], *, prog: str = "train_pytorch.py") -> int:
    """Run the command line and return the exit code."""
    arguments = parser(prog).parse_args(argv)
    try:
        result = _train(arguments)
    except KeyboardInterrupt:
        print_error("stopped; MODEL_DIR is unchanged")
        return 130
    except Exception as error:  # noqa: BLE001
        code, failure = failure_of(error)
        if code == ExitCode.BUG or error.__cause__ is not None:
            traceback.print_exception(error)
        print_error(f"error: {failure.message}")
        return int(ExitCode.NOTHING_TO_DO if failure.code == "E_NO_ROLLOUTS" else code)
    model = engine_path(absolute_path(arguments.model_dir / result.model))
    score = _format_score(result.score)
    ConsoleReporter().line(
        f"best: epoch {result.epoch}, score {score}, {result.algorithm}, {model} ({result.seconds:.1f} s)"
    )
    return 0


def _format_score(score: float | None) -> str:
    return "unknown" if score is None else f"{score:.4f}"


def _train(arguments: argparse.Namespace) -> Result:
    names = ("epochs", "device", "seed", "batch_size", "learning_rate")
    flags: dict[str, Any] = {f"trainer.{name}": getattr(arguments, name) for name in names}
    flag_names = {"trainer.epochs": "EPOCHS", "trainer.device": "DEVICE"}
    settings = load_settings(Path.cwd(), config=arguments.config, flags=flags, flag_names=flag_names)
    rollouts = rollouts_in(arguments.export_dir)
    model_dir: Path = arguments.model_dir
    model_dir.mkdir(parents=True, exist_ok=True)
    parent_name, parent = (None, None) if arguments.fresh else best_checkpoint(model_dir)
    contract = contract_for(settings.agent, rollouts, parent)
    behaviours = _models_in(model_dir, parent_name)
    with tempfile.TemporaryDirectory(dir=model_dir, prefix=".training-") as folder:
        job = Job(
            kind="train",
            policy_version=parent.lineage.cycle + 1 if parent else 1,
            output=folder,
            contract=contract,
            hidden_sizes=parent.hidden_sizes if parent else settings.agent.hidden_sizes,
            settings=settings.trainer,
            rollouts=tuple(r.model_copy(update={"behaviours": behaviours}) for r in rollouts),
            parent=str(model_dir / parent_name) if parent_name else None,
            choice_names=settings.agent.choice_names,
            observation_limit=settings.agent.observation_limit,
            mirror=settings.agent.declared_mirror,
            use_epoch=settings.daemon.auto_load_model_epoch,
        )
        reporter = ConsoleReporter()
        origin = f"continuing from {parent_name}" if parent_name else "a new network"
        reporter.line(f"{len(rollouts)} rollouts, {origin}, {settings.trainer.epochs} epochs")
        result = run_job(job, reporter)
        _move_into_place(Path(folder), model_dir, result)
    return result


def rollouts_in(folder: Path) -> tuple[RolloutInput, ...]:
    """Return a folder's rollouts, the oldest name first. Raises RolloutError (E_NO_ROLLOUTS)."""
    if not folder.is_dir():
        raise RolloutError(
            f"the folder {shown_path(folder)} does not exist",
            hint=f"name the engine's export folder{_command_hint(folder)}",
            code="E_NO_ROLLOUTS",
        )
    paths = sorted(path for path in folder.iterdir() if is_rollout_name(path.name) and path.is_file())
    if not paths:
        hint = "let the engine export rollout_<i>_<YYYYMMDD_HHMMSS>.json there"
        raise RolloutError(f"{shown_path(folder)} does not contain a rollout", hint=hint, code="E_NO_ROLLOUTS")
    rollouts = []
    for path in paths:
        try:
            sha256 = sha256_of(read_with_retries(path, limit=MAX_ROLLOUT_BYTES))
        except (HotlapError, OSError) as error:
            print_error(f"note: {path.name} is left out: {error_text(error)}")
            continue
        rollouts.append(RolloutInput(name=path.name, sha256=sha256, source=str(path), cache="", is_new=True))
    return tuple(rollouts)


def _command_hint(folder: Path) -> str:
    """Return a hint for a mistyped command, which is read as EXPORT_DIR."""
    command = nearest(str(folder), PROGRAMS)
    return f", or did you mean the command {command}?" if command else ""


def contract_for(
    agent: AgentSettings, rollouts: Sequence[RolloutInput], parent: Checkpoint | None = None
) -> PolicyContract:
    """Return the contract of the parent, or else of `[agent]`, or else of most of the newest rollouts.

    Raises ContractError if `[agent]` contradicts the parent, RolloutError if no rollout can be read.
    """
    rules = ReadingRules.of(agent)
    if parent is not None:
        wanted = rules.with_bounds_for(parent.contract)
        if wanted is None:
            raise ContractError(
                f"{rules.contradiction(parent.contract)}",
                hint="correct daemon.toml, or use --fresh to start with a new network",
            )
        return wanted
    votes, problem = [], ""
    for entry in rollouts[-_VOTERS:]:
        try:
            parsed = parse_rollout(read_with_retries(Path(entry.source), limit=MAX_ROLLOUT_BYTES), rules)
            contract = finished(parsed, rules).contract
        except (HotlapError, OSError) as error:
            problem = f"{entry.name}: {error_text(error)}"
        else:
            votes.append(Vote(contract, parsed.states_bounds, parsed.size))
    majority = majority_of(votes, agent.contract())
    if majority is None:
        raise RolloutError(f"no rollout can be read: {problem}", hint="see `hotlap docs formats`")
    return majority.contract


def best_checkpoint(model_dir: Path) -> tuple[str | None, Checkpoint | None]:
    """Return the checkpoint that model_analysis.json names, or None if no model was trained there.

    Raises ContractError (E_PARENT) if the name is a path, or not that of a checkpoint in the folder.
    """
    analysis = model_dir / "model_analysis.json"
    if not analysis.is_file():
        return None, None
    try:
        document = orjson.loads(read_with_retries(analysis, limit=1 << 24))
        name = document.get("chosen_model") or document.get("best_model")
    except (orjson.JSONDecodeError, AttributeError):
        name = None
    if not isinstance(name, str) or not NAME.fullmatch(name) or not (model_dir / name).is_file():
        raise ContractError(
            f"{shown_path(analysis)} does not name a checkpoint in its folder",
            hint="use --fresh to start with a new network",
            code="E_PARENT",
        )
    return name, Output(model_dir).checkpoint(name, None)


def _models_in(model_dir: Path, parent_name: str | None) -> tuple[str, ...]:
    """Return the model JSONs that may be the rollouts' behaviour policies, the parent's first."""
    paths = sorted(model_dir.glob("model_epoch_*.json"))
    first = Path(parent_name).stem if parent_name else ""
    return tuple(str(path) for path in sorted(paths, key=lambda path: path.stem != first))


def _move_into_place(staging: Path, model_dir: Path, result: Result) -> None:
    """Move the new files into MODEL_DIR, the analysis last, and remove those of an earlier training of Hotlap.

    Files of other programs with such names are moved to a folder of their own.
    """
    if folder := keep_foreign(model_dir, lambda path: is_model_name(path.name), at_s=time.time()):
        print_error(f"note: files in {shown_path(model_dir)} that Hotlap did not write are now in {folder.name}")
    for old in model_dir.iterdir():
        if MODEL_NAME.fullmatch(old.name) and old.name not in result.files:
            unlink_with_retries(old)
    for name in sorted(result.files, key=lambda name: name == "model_analysis.json"):
        rename_with_retries(staging / name, model_dir / name)
