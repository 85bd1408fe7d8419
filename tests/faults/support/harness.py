"""A complete daemon in one thread, for fast cycles: its trainer finishes at once, and the test moves its clock."""

from __future__ import annotations

import contextlib
import dataclasses
import sqlite3
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import cast

from daemon.diagnostics.invariants import Violation, check_invariants
from daemon.process.child import Child, ChildSpec
from daemon.publishing.ledger_recovery import open_or_rebuild
from daemon.rollouts.inbox import Inbox
from daemon.runtime.context import Context
from daemon.runtime.failure_messages import CLEARED_BY_SUCCESS, describe_failure
from daemon.runtime.loop import Mailbox
from daemon.runtime.project_mark import require_own_project
from daemon.runtime.state_folder import with_state_setting
from daemon.service import Service
from daemon.training.runner import Runner
from daemon.ui.snapshot import SystemStats
from daemon.ui.status_writer import StatusWriter
from schemas.job import EpochDone, Event, Job, Ready, Result, Selecting
from schemas.model import model_to_bytes
from schemas.settings.models import AgentSettings, DaemonSettings, Settings, TrainerSettings
from schemas.storage.files import REAL_DISK, Disk, sha256_of
from schemas.storage.layout import ProjectPaths
from tests.helpers import FakeClock, ListLog, make_model, write_rollout

EPOCHS = 2
MAX_PASSES = 3000  #: of one `until`


def train(job: Job, *, disk: Disk = REAL_DISK) -> list[Event]:
    """Write what a trainer writes to its output folder, and return its events."""
    output = Path(job.output)
    epochs = [0] if job.kind == "initial" else list(range(1, EPOCHS + 1))
    files = {f"model_epoch_{epoch}.pt": f"checkpoint {job.policy_version} {epoch}".encode() for epoch in epochs}
    size, hidden = job.contract.observation_size, job.hidden_sizes[0]
    model = make_model(version=job.policy_version, seed=job.policy_version, observation_size=size, hidden=hidden)
    new = tuple(rollout.sha256 for rollout in job.rollouts if rollout.is_new)
    parent = None if job.parent is None else "/".join(Path(job.parent).with_suffix(".json").parts[-2:])
    lineage = model.lineage.model_copy(update={"epoch": epochs[-1], "rollouts": new, "parent": parent})
    files[f"model_epoch_{epochs[-1]}.json"] = model_to_bytes(dataclasses.replace(model, lineage=lineage))
    files["model_analysis.json"] = f'{{"chosen_epoch": {epochs[-1]}}}'.encode()
    for name, data in files.items():
        disk.write(output / name, data)
    events: list[Event] = [Ready(versions={"instant": "1"})]
    events += [
        EpochDone(epoch=epoch, epochs=EPOCHS, losses={"value_loss": 1.0 / epoch}, score=0.5, seconds=0.1)
        for epoch in epochs
        if epoch
    ]
    result = Result(
        epoch=epochs[-1],
        score=0.5,
        model=f"model_epoch_{epochs[-1]}.json",
        checkpoint=f"model_epoch_{epochs[-1]}.pt",
        files={name: sha256_of(data) for name, data in files.items()},
        contract=job.contract,
        hidden_sizes=job.hidden_sizes,
        losses={"value_loss": 0.25},
    )
    return [*events, Selecting(), result]


class InstantChild:
    """Replaces `daemon.process.child.Child`: it has no process and finishes its work in `send`."""

    pid = 0

    def __init__(self, answer: Callable[[Job], list[Event]]) -> None:
        self._answer = answer
        self._events: deque[Event] = deque()
        self._exit_code: int | None = None

    def send(self, job: Job) -> None:
        self._events += self._answer(job)

    def events(self) -> list[Event]:
        events = list(self._events)
        self._events.clear()
        return events

    def end(self, exit_code: int) -> None:
        self._exit_code = exit_code

    def poll(self) -> int | None:
        return self._exit_code

    def redirect_log(self, log: Path) -> None:
        pass

    def terminate(self) -> None:
        self._exit_code = 0 if self._exit_code is None else self._exit_code

    def kill(self) -> None:
        self._exit_code = -9 if self._exit_code is None else self._exit_code

    def reap(self) -> bool:
        return True

    def stop(self, grace_s: float) -> bool:
        self.terminate()
        return True


class InstantLauncher:
    """Starts instant children. Tests may replace `answer`, which does a trainer's work."""

    def __init__(self) -> None:
        self.answer: Callable[[Job], list[Event]] = train
        self.started: list[InstantChild] = []

    def start(self, spec: ChildSpec, *, sends_events: bool) -> Child:
        self.started.append(InstantChild(self.answer))
        return cast(Child, self.started[-1])


class NoSystemStats:
    def sample(self, trainer_pid: int | None) -> SystemStats:
        return SystemStats(0.0, 0, 1, 0, 0, "")


class InstantHarness:
    """One daemon on one project folder. `until` makes passes as the main loop does, and records failures."""

    def __init__(
        self,
        folder: Path,
        *,
        disk: Disk = REAL_DISK,
        clock: FakeClock | None = None,
        hidden_sizes: tuple[int, ...] = (8, 8),  # those of `make_model`
        **daemon: object,
    ) -> None:
        paths = ProjectPaths(folder, str(daemon.get("engine_path", "")))
        self.paths = with_state_setting(paths, DaemonSettings(state_dir=str(daemon.get("state_dir", ""))))
        require_own_project(self.paths)
        self.paths.make()
        self.clock = clock or FakeClock()
        self.mailbox = Mailbox()
        self.launcher = InstantLauncher()
        self.failures: list[Exception] = []
        self.log = ListLog()
        quick = {"settle_s": 0.0, "scan_interval_s": 0.1, "retry_delay_s": 1.0, "auto_train_after_n_rollouts": 2}
        self.settings = Settings(
            daemon=DaemonSettings.model_validate({**quick, **daemon}),
            agent=AgentSettings(hidden_sizes=hidden_sizes),
            trainer=TrainerSettings(epochs=EPOCHS),
        )
        with contextlib.ExitStack() as stack:
            self.ledger, rebuilt = open_or_rebuild(self.paths, now_s=self.clock.utc_s(), disk=disk)
            stack.callback(self.ledger.close)
            self.ledger._db.execute("PRAGMA synchronous = OFF")  # faster; no test here cuts the power
            self.context = Context(
                self.paths, self.settings, self.ledger, self.log, self.clock, self.mailbox.wake, disk
            )
            if rebuilt:
                self.context.warn("W_LEDGER_REBUILT", rebuilt)
            self.inbox = Inbox(self.context)
            stack.callback(self.inbox.close)
            self.runner = Runner(self.context, self.launcher, attempts=3)
            self.service = Service(
                self.context, self.inbox, self.runner, StatusWriter(self.context, NoSystemStats()), None
            )
            self.service.start()
            stack.pop_all()

    def tick(self) -> None:
        """Make one pass, record a failure as the main loop does, and move the clock to the next pass."""
        try:
            delay_s = self.service.tick()
            self.context.clear_warning(*CLEARED_BY_SUCCESS)
        except Exception as error:  # noqa: BLE001  as the loop does
            self.failures.append(error)
            self.context.warn(*describe_failure(error, self.paths))
            delay_s = 1.0
        self.await_reader()
        self.clock.pass_s(min(max(delay_s, 0.05), 1.0))

    def await_reader(self) -> None:
        """Wait a short time if the reader's thread is busy."""
        self.mailbox.wait(0.02 if self.inbox._reader.is_busy else 0.0)

    def until(self, condition: Callable[[], bool]) -> None:
        """Make passes until `condition()` is true; fail after `MAX_PASSES`."""
        for _ in range(MAX_PASSES):
            self.tick()
            if condition():
                return
        raise AssertionError("the condition did not become true; the log:\n" + "\n".join(self.log.lines[-40:]))

    @property
    def version(self) -> int:
        """Return the published version, or -1 before the first publication."""
        last = self.ledger.last_publication()
        return -1 if last is None else last.policy_version

    def until_version(self, version: int) -> None:
        self.until(lambda: self.version >= version and not self.runner.busy)

    def write_rollouts(self, *numbers: int) -> None:
        for number in numbers:
            write_rollout(self.paths.exports, number)

    def run_cycle(self, first: int) -> None:
        """Write two rollouts and wait until the next model is published."""
        before = self.version
        self.write_rollouts(first, first + 1)
        self.until(lambda: self.version > max(0, before) and not self.runner.busy and self.ledger.pending_count() < 2)

    def warnings(self) -> set[str]:
        return {warning.code for warning in self.context.warnings()}

    def close(self) -> None:
        """Stop the daemon normally."""
        with contextlib.suppress(OSError, sqlite3.Error):
            self.service.report_end()
        self.crash()

    def crash(self) -> None:
        """Stop the daemon like a crash, as far as this is possible in one process: without writing anything."""
        self.runner.stop()
        self.inbox.close()
        self.ledger.close()

    def __enter__(self) -> InstantHarness:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def violations(folder: Path, **kwargs: object) -> tuple[Violation, ...]:
    """Return the violations of invariants. Temporary files are violations at any age."""
    return check_invariants(folder, litter_age_s=0.0, **kwargs)  # type: ignore[arg-type]
