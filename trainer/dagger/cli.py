"""`hotlap dagger`: train a policy for each milestone from its expert."""

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
from schemas.storage.windows_paths import shown_path
from trainer.common.reporting.console import print_error
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
After a stop, run the same command again: it continues after the last completed round. It trains failed milestones
again and skips completed ones; --fresh trains these again, too. Labels are never removed. Exit codes: 0 all milestones
completed, 1 a milestone failed, 2 bad arguments or config, 130 stopped. `hotlap docs dagger` describes files,
environments and experts."""


def parser(prog: str) -> CommandParser:
    """Return the command line."""
    p = CommandParser(
        prog=prog,
        description="For each milestone: evaluate its expert, then train a policy with DAgger.",
        epilog=_EPILOG,
    )
    _add_names(p)
    selection = p.add_mutually_exclusive_group()
    selection.add_argument("--milestone", metavar="ID", help="train only this milestone")
    selection.add_argument("--resume-from", metavar="ID", help="train this milestone and those after it")
    p.add_argument("--skip-milestones", nargs="+", default=[], metavar="ID", help="do not train these milestones")
    p.add_argument(
        "--fresh",
        action="store_true",
        help="train from scratch, completed milestones too; their work and models are kept in work/<ID>.old-<time>",
    )
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="milestones that are trained at the same time (1)")
    p.add_argument(
        "--stall-timeout",
        type=float,
        default=1800.0,
        metavar="S",
        help="end a milestone that makes no progress for S seconds (1800)",
    )
    p.add_argument("--track", action="store_true", help="log to Weights & Biases; WANDB_MODE=offline works")
    p.add_argument("--wandb-project", default="hotlap-dagger", metavar="NAME", help="its project (hotlap-dagger)")
    p.add_argument("--wandb-entity", metavar="NAME", help="its entity (default: yours)")
    p.add_argument("--no-record-video", action="store_true", help="do not record videos")
    p.add_argument("--no-cuda", action="store_true", help="use the CPU only")
    _add_settings(p)
    return p


def _add_names(p: CommandParser) -> None:
    """Add the flags for the config, the environment and the folders."""
    p.add_argument(
        "--milestone-config",
        type=Path,
        default=Path("milestone_config.json"),
        metavar="FILE",
        help="a JSON file, or the name of an installed config: racing, airstriker (default: milestone_config.json)",
    )
    p.add_argument(
        "--env",
        metavar="NAME",
        help="racing, retro, module:factory, file.py:factory or a Gymnasium id (default: env in the config)",
    )
    p.add_argument(
        "--state-dir",
        type=Path,
        default=Path("milestone_states"),
        metavar="DIR",
        help="folder of the start states (default: milestone_states)",
    )
    p.add_argument(
        *("--expert-dir", "--policy-dir"),
        type=Path,
        metavar="DIR",
        help="folder of the experts, <MILESTONE_ID>.py (default: policy_dir in the config)",
    )
    p.add_argument(
        "--output-dir",
        type=Path,
        default=Path("dagger_pipeline_results"),
        metavar="DIR",
        help="folder of the results (default: dagger_pipeline_results)",
    )


def _add_settings(p: CommandParser) -> None:
    """Add --from and a flag for each of the DaggerSettings."""
    p.add_argument(
        "--from",
        dest="start_from",
        type=Path,
        metavar="FILE",
        help="start every policy from a model JSON or a checkpoint, for example of a daemon",
    )
    p.add_argument(
        "--demonstrations",
        type=Path,
        metavar="FOLDER",
        help="recorded play as the first round: rollouts of people, or a Minari dataset; without expert, the only one",
    )
    numbers = p.add_argument_group("settings of the training")
    for name, field in DaggerSettings.model_fields.items():
        flag, default = f"--{name.replace('_', '-')}", field.default
        if isinstance(default, str):
            numbers.add_argument(
                flag, choices=("linear", "exponential", "constant"), help=f"{field.description} ({default})"
            )
        else:
            numbers.add_argument(flag, type=type(default), metavar="X", help=f"{field.description} ({default})")


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
        print_error(f"error: {error}")
        return 2
    except OSError as error:
        remedy = "correct it, then run the command again; finished rounds are not repeated"
        print_error(f"error: {error.filename or ''}: {error.strerror} -> {remedy}")
        return 1
    except KeyboardInterrupt:
        print_error("stopped; run the same command again to continue")
        return 130
    print_summary(results, console)
    console.print(f"report: {(options.output_dir / 'report.html').as_posix()}", markup=False, soft_wrap=True)
    return _exit_code(results)


def _exit_code(results: Sequence[MilestoneResult]) -> int:
    return 1 if any(result.status == "failed" for result in results) else 0


def _options(arguments: argparse.Namespace) -> PipelineOptions:
    """Return the options that the command line asks for. Raises ConfigError."""
    path, is_shipped = find_config(arguments.milestone_config, ".json", flag="--milestone-config", prefix="dagger_")
    config = read_config(path)
    if arguments.env is not None:
        config = config.model_copy(update={"env": arguments.env})
    if not config.env:
        raise ConfigError(
            f"{shown_path(path)} does not name the environment",
            hint='use --env NAME, or add it to the file: "env": "my_game:Game"',
        )
    settings = settings_from_flags({name: getattr(arguments, name) for name in DaggerSettings.model_fields})
    if arguments.jobs < 1:
        raise ConfigError(f"--jobs is {arguments.jobs}, but must be at least 1", hint="see --help")
    if arguments.start_from is not None and not arguments.start_from.is_file():
        raise ConfigError(f"--from {arguments.start_from} is not a file", hint="name a model JSON or a checkpoint")
    if arguments.demonstrations is not None and not arguments.demonstrations.is_dir():
        raise ConfigError(
            f"--demonstrations {shown_path(arguments.demonstrations)} is not a folder", hint="name the recorded play"
        )
    if find_spec("gymnasium") is None:
        raise ConfigError("DAgger needs gymnasium", hint=install_command("dagger"), code="E_EXTRA")
    record_video = not arguments.no_record_video
    if record_video and not can_record():
        print_error(f"note: no videos are recorded, because av is not installed -> {pip_install('av')}")
        record_video = False
    return PipelineOptions(
        config=config,
        settings=settings,
        selection=Selection(
            arguments.milestone, arguments.resume_from, tuple(arguments.skip_milestones), arguments.fresh
        ),
        expert_dir=_expert_dir(arguments.expert_dir, config, is_shipped=is_shipped),
        state_dir=arguments.state_dir,
        output_dir=arguments.output_dir,
        device="cpu" if arguments.no_cuda else "auto",
        record_video=record_video,
        jobs=arguments.jobs,
        stall_timeout_s=arguments.stall_timeout,
        start_from=arguments.start_from,
        demonstrations=arguments.demonstrations,
        config_dir=None if is_shipped else path.parent,
    )


def _expert_dir(flag_value: Path | None, config: MilestoneConfig, *, is_shipped: bool) -> Path:
    """Return the folder of the experts. In an installed config it is relative to Hotlap's files. Raises ConfigError."""
    if flag_value is None and config.policy_dir is None:
        raise ConfigError(
            "the folder of the experts is not set", hint="use --expert-dir DIR, or set policy_dir in the config"
        )
    folder = flag_value or Path(config.policy_dir or "")
    if flag_value is None and is_shipped:
        folder = shipped_folder("examples").parent / folder
    if not folder.is_dir():
        raise ConfigError(
            f"the folder of the experts, {shown_path(folder)}, does not exist",
            hint="correct --expert-dir or policy_dir",
        )
    return folder
