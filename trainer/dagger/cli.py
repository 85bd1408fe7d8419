"""`hotlap dagger`: milestones with experts in, policies out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from schemas.errors import ConfigError, HotlapError
from schemas.program.commands import install_command, pip_install
from schemas.program.parser import CommandParser
from trainer.common.reporting.console import say_error
from trainer.common.reporting.video import can_record
from trainer.common.shipped_files import find_config, shipped_folder
from trainer.dagger.milestones import MilestoneConfig, read_config
from trainer.dagger.pipeline import Pipeline, PipelineListener, PipelineOptions
from trainer.dagger.reporting.console import LineConsole, ProgressConsole, print_summary
from trainer.dagger.reporting.wandb_tracker import WandbTracker
from trainer.dagger.results import MilestoneResult
from trainer.dagger.schedule import Selection
from trainer.dagger.settings import DaggerSettings, settings_from_flags

_EPILOG = """\
The same command continues where it was stopped, inside a milestone too. Failed milestones are tried again, completed
ones are skipped (--fresh does them again). Exit codes: 0 all completed, 1 a milestone failed, 2 bad arguments or
config, 130 stopped. `hotlap docs dagger` describes files, environments and experts."""


def parser(prog: str) -> CommandParser:
    """Return the command line."""
    p = CommandParser(
        prog=prog,
        description="For each milestone: check its expert, train a policy with DAgger, record everything.",
        epilog=_EPILOG,
    )
    p.add_argument(
        "--milestone-config",
        type=Path,
        default=Path("milestone_config.json"),
        metavar="FILE",
        help="a JSON file, or the name of a shipped one: racing (default: milestone_config.json)",
    )
    p.add_argument("--state-dir", type=Path, default=Path("milestone_states"), metavar="DIR", help="start states")
    p.add_argument(
        *("--expert-dir", "--policy-dir"),
        type=Path,
        metavar="DIR",
        help="experts, <MILESTONE_ID>.py (default: policy_dir in the config)",
    )
    p.add_argument("--output-dir", type=Path, default=Path("dagger_pipeline_results"), metavar="DIR")
    which = p.add_mutually_exclusive_group()
    which.add_argument("--milestone", metavar="ID", help="only that one")
    which.add_argument("--resume-from", metavar="ID", help="that one and those after it")
    p.add_argument("--skip-milestones", nargs="+", default=[], metavar="ID", help="leave these out")
    p.add_argument("--fresh", action="store_true", help="start from scratch, also what was completed")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="milestones trained at the same time (1)")
    numbers = p.add_argument_group("numbers")
    for name, field in DaggerSettings.model_fields.items():
        flag, default = f"--{name.replace('_', '-')}", field.default
        if isinstance(default, str):
            numbers.add_argument(
                flag, choices=("linear", "exponential", "constant"), help=f"{field.description} ({default})"
            )
        else:
            numbers.add_argument(flag, type=type(default), metavar="X", help=f"{field.description} ({default})")
    p.add_argument(
        "--stall-timeout", type=float, default=1800.0, metavar="S", help="end a milestone that hangs (1800 s)"
    )
    p.add_argument("--track", action="store_true", help="log to Weights & Biases; WANDB_MODE=offline works")
    p.add_argument("--wandb-project", default="hotlap-dagger", metavar="NAME")
    p.add_argument("--wandb-entity", metavar="NAME")
    p.add_argument("--no-record-video", action="store_true", help="no videos")
    p.add_argument("--no-cuda", action="store_true", help="CPU only")
    return p


def main(argv: Sequence[str], *, prog: str = "auto_dagger_pipeline.py") -> int:
    """Run the command line and return the exit code."""
    arguments = parser(prog).parse_args(argv)
    console = Console()
    try:
        options = _options(arguments)
        with ExitStack() as stack:
            listeners: list[PipelineListener] = [
                stack.enter_context(ProgressConsole(console)) if console.is_terminal else LineConsole()
            ]
            if arguments.track:
                tracker = WandbTracker(arguments.wandb_project, arguments.wandb_entity, options.output_dir)
                stack.callback(tracker.close)
                listeners.append(tracker)
            results = Pipeline(options, tuple(listeners)).run()
    except HotlapError as error:
        say_error(f"error: {error}")
        return 2
    except OSError as error:
        say_error(
            f"error: {error.filename or ''}: {error.strerror} -> correct it and run the command again: no work is lost"
        )
        return 1
    except KeyboardInterrupt:
        say_error("stopped; the same command continues from here")
        return 130
    print_summary(results, console)
    console.print(f"report: {(options.output_dir / 'report.html').as_posix()}", markup=False, soft_wrap=True)
    return _code(results)


def _code(results: Sequence[MilestoneResult]) -> int:
    return 1 if any(result.status == "failed" for result in results) else 0


def _options(given: argparse.Namespace) -> PipelineOptions:
    """Return the options that the command line asks for. Raises ConfigError."""
    path, is_shipped = find_config(given.milestone_config, ".json", flag="--milestone-config", prefix="dagger_")
    config = read_config(path)
    settings = settings_from_flags({name: getattr(given, name) for name in DaggerSettings.model_fields})
    if given.jobs < 1:
        raise ConfigError(f"--jobs {given.jobs}, but must be at least 1", hint="see --help")
    if find_spec("gymnasium") is None:
        raise ConfigError("DAgger needs gymnasium", hint=install_command("dagger"), code="E_EXTRA")
    record_video = not given.no_record_video
    if record_video and not can_record():
        say_error(f"note: no videos, since av is not installed -> {pip_install('av')}")
        record_video = False
    return PipelineOptions(
        config=config,
        settings=settings,
        selection=Selection(given.milestone, given.resume_from, tuple(given.skip_milestones), given.fresh),
        expert_dir=_expert_dir(given.expert_dir, config, is_shipped=is_shipped),
        state_dir=given.state_dir,
        output_dir=given.output_dir,
        device="cpu" if given.no_cuda else "auto",
        record_video=record_video,
        jobs=given.jobs,
        stall_timeout_s=given.stall_timeout,
    )


def _expert_dir(given: Path | None, config: MilestoneConfig, *, is_shipped: bool) -> Path:
    """Return the folder of the experts; a shipped config's is relative to where it was shipped. Raises ConfigError."""
    if given is None and config.policy_dir is None:
        raise ConfigError("no folder of experts was named", hint="--expert-dir DIR, or policy_dir in the config")
    folder = given or Path(config.policy_dir or "")
    if given is None and is_shipped:
        folder = shipped_folder("examples").parent / folder
    if not folder.is_dir():
        raise ConfigError(f"the folder of experts {folder} does not exist", hint="correct --expert-dir or policy_dir")
    return folder
