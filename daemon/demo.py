"""`hotlap --demo`: the daemon and a simulated engine, so that no game is needed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from daemon.app import App, open_service
from daemon.diagnostics.reports import sparkline
from daemon.errors import DaemonError, Exit
from daemon.ledger.cycle import Phase
from daemon.process.child import Child, ChildSpec
from daemon.process.output_log import last_line
from schemas.errors import HotlapError
from schemas.process.exit_codes import CONTROL_C, exit_words, remedy, unsigned
from schemas.program.children import CODE_ROOT, module_command
from schemas.program.commands import hotlap_command, quoted
from schemas.settings.models import Settings
from schemas.status import CycleSummary
from schemas.storage.files import REAL_DISK
from schemas.storage.layout import ProjectPaths
from schemas.storage.windows_paths import absolute_path, shown_path

AGENTS = 32


def run_demo(project: Path | None, settings: Settings, *, cycles: int | None, dashboard: bool) -> Exit:
    """Train with the simulated engine until stopped, or for `cycles` cycles, and print a summary.

    Ctrl-C is an orderly end, as it is without --demo: the exit code is 0, also before the last cycle.
    """
    folder = project or Path("demo") / time.strftime("run_%Y%m%d_%H%M%S")
    try:
        REAL_DISK.make_folder(folder)
    except OSError as error:
        raise DaemonError(
            f"{shown_path(folder)} cannot be created: {error.strerror}", hint="use --project DIR"
        ) from None
    paths = ProjectPaths(absolute_path(folder))
    daemon = settings.daemon.model_copy(update={"engine_path": "", "state_dir": ""})  # those of another project
    settings = settings.model_copy(update={"daemon": daemon})
    with open_service(paths, settings, dashboard=dashboard) as app:
        app.context.log.info(
            f"demo in {shown_path(paths.project)}: a simulated engine writes rollouts; Ctrl-C stops it"
        )
        done_before = len(_trained(app))
        log = paths.logs / "engine.log"
        engine = Child(_engine_command(paths, settings, log), sends_events=False, wake=app.mailbox.wake)
        try:
            is_stopped = not app.run(until=lambda: engine.poll() is not None or _is_enough(app, cycles, done_before))
        finally:
            code = engine.poll()
            engine.stop(3.0)
        trained = _trained(app)[done_before:]
        is_stopped |= code is not None and (code == 0 or unsigned(code) == CONTROL_C)
        if code and not is_stopped:
            ending = f"the simulated engine ended with {exit_words(code)}: {last_line(log) or 'no message'}"
            raise HotlapError(ending, hint="; ".join(filter(None, (remedy(code), f"see {shown_path(log)}"))))
    is_complete = _print_summary(trained, paths, wanted=cycles)
    return Exit.DONE if is_complete or is_stopped else Exit.CYCLE_FAILED


def _engine_command(paths: ProjectPaths, settings: Settings, log: Path) -> ChildSpec:
    arguments = (
        *module_command("trainer", "simulate", "--project", str(paths.project), "--lifeline"),
        *("--agents", str(AGENTS), "--seed", str(settings.trainer.seed)),
        *("--pause-while-training", str(settings.daemon.auto_train_after_n_rollouts)),
    )
    return ChildSpec(arguments, log, (CODE_ROOT,), paths.project)


def _trained(app: App) -> list[CycleSummary]:
    return [cycle for cycle in app.context.ledger.history() if cycle.rollouts]


def _is_enough(app: App, cycles: int | None, done_before: int) -> bool:
    if cycles is None:
        return False
    cycle = app.service.runner.cycle
    is_stuck = cycle is not None and (
        cycle.phase is Phase.PARKED or (cycle.kind == "initial" and cycle.phase is Phase.FAILED)
    )
    return is_stuck or app.context.ledger.count_trained() - done_before >= cycles


def _print_summary(trained: list[CycleSummary], paths: ProjectPaths, *, wanted: int | None) -> bool:
    """Print what was trained, and return whether all wanted cycles were published."""
    rewards = [cycle.reward_mean for cycle in trained if cycle.reward_mean is not None]
    failed = [cycle for cycle in trained if cycle.state != "published"]
    lines = ["", f"{len(trained) - len(failed)} cycles published, {len(failed)} failed"]
    if len(rewards) > 1:
        gain = f", {rewards[-1] / rewards[0]:.1f} times" if rewards[0] > 0 else ""
        lines.append(f"reward per step  {rewards[0]:.3f} -> {rewards[-1]:.3f}{gain}   {sparkline(rewards, 24)}")
        seconds = sorted(cycle.seconds for cycle in trained if cycle.seconds is not None)
        if seconds:
            lines.append(f"a cycle takes    {seconds[len(seconds) // 2]:.1f} s (median)")
    lines.append(f"models           {shown_path(paths.models)}")
    lines.append(f"pointer file     {shown_path(paths.pointer)}")
    lines.append(f"continue with    {hotlap_command()} --demo --project {quoted(shown_path(paths.project))}")
    sys.stdout.write("\n".join(lines) + "\n")
    return wanted is None or (len(trained) >= wanted and not failed)
