"""A complete service in this process, with the fake trainer as real child processes."""

from __future__ import annotations

import dataclasses
import sys
import time
from pathlib import Path

import pytest

from daemon.process.child import Child, ChildSpec
from daemon.rollouts.inbox import Inbox
from daemon.runtime.loop import Mailbox
from daemon.service import Service
from daemon.training.runner import Runner
from daemon.ui.snapshot import SystemStats
from daemon.ui.status_writer import StatusWriter
from schemas.settings.models import AgentSettings, DaemonSettings, Settings, TrainerSettings
from tests.helpers import open_context
from tests.platforms import PATIENCE

FAKE = Path(__file__).parents[1] / "fakes" / "trainer.py"


class FakeLauncher:
    """Starts the fake trainer instead of the real one. Users' scripts are started unchanged."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mode = ""
        self.started: list[Child] = []
        self._mailbox = mailbox

    def start(self, spec: ChildSpec, *, sends_events: bool) -> Child:
        if sends_events:
            spec = dataclasses.replace(spec, arguments=(sys.executable, str(FAKE), self.mode))
        child = Child(spec, sends_events=sends_events, wake=self._mailbox.wake)
        self.started.append(child)
        return child


class NoSystemStats:
    def sample(self, trainer_pid: int | None) -> SystemStats:
        return SystemStats(0.0, 0, 1, 0, 0, "")


class ProcessHarness:
    """One daemon on one project folder, with real child processes and a real clock. `until` makes passes."""

    def __init__(
        self,
        folder: Path,
        *,
        attempts: int = 3,
        epochs: int = 3,
        keep_warm: bool = False,
        hidden_sizes: tuple[int, ...] = (8, 8),  # small models are written fast
        agent: AgentSettings | None = None,
        **daemon: object,
    ) -> None:
        self._is_closed = False
        self.mailbox = Mailbox()
        quick = {"settle_s": 0.02, "scan_interval_s": 0.1, "stop_grace_s": 1.0, "retry_delay_s": 0.01}
        self.settings = Settings(
            daemon=DaemonSettings.model_validate({"auto_train_after_n_rollouts": 2, **quick, **daemon}),
            agent=agent or AgentSettings(hidden_sizes=hidden_sizes),
            trainer=TrainerSettings(epochs=epochs),
        )
        self.context = open_context(folder, self.settings, wake=self.mailbox.wake)
        self.launcher = FakeLauncher(self.mailbox)
        self.inbox = Inbox(self.context)
        self.runner = Runner(self.context, self.launcher, attempts=attempts, keep_warm=keep_warm)
        self.service = Service(self.context, self.inbox, self.runner, StatusWriter(self.context, NoSystemStats()), None)
        try:
            self.service.start()
        except Exception:
            self.close()
            raise

    @property
    def paths(self):
        return self.context.paths

    @property
    def ledger(self):
        return self.context.ledger

    @property
    def log(self) -> str:
        return "\n".join(self.context.log.lines)

    def until(self, condition, *, timeout_s: float = 20.0) -> None:
        """Make passes until `condition()` is true; fail after `timeout_s`."""
        end = time.monotonic() + timeout_s * PATIENCE
        while True:
            delay_s = self.service.tick()
            if condition():
                return
            assert time.monotonic() < end, f"the condition did not become true in time; the log:\n{self.log}"
            self.mailbox.wait(min(delay_s, 0.05))

    def until_published(self, version: int) -> None:
        def is_there() -> bool:
            last = self.ledger.last_publication()
            return last is not None and last.policy_version >= version and not self.runner.busy

        self.until(is_there)

    def close(self) -> None:
        """Stop the daemon and its children. May be called again."""
        if self._is_closed:
            return
        self._is_closed = True
        self.service.report_end()
        self.runner.stop()
        self.inbox.close()
        self.ledger.close()


@pytest.fixture
def make_harness(tmp_path):
    """Return a function that makes harnesses. All of them are closed at the end."""
    made: list[ProcessHarness] = []

    def make(folder: Path = tmp_path, **kwargs: object) -> ProcessHarness:
        made.append(ProcessHarness(folder, **kwargs))
        return made[-1]

    yield make
    for harness in made:
        harness.close()
