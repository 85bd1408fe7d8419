"""A finished project that each case changes, and what must be true when a daemon starts on it."""

from __future__ import annotations

import contextlib
import io
import shutil
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from schemas.errors import HotlapError
from schemas.model import MAX_MODEL_BYTES, read_model
from schemas.storage.files import read_regular
from schemas.storage.layout import ProjectPaths

if TYPE_CHECKING:
    from tests.faults.support.harness import InstantHarness

CYCLES = 3


class Case(NamedTuple):
    """The result of one case."""

    outcome: str  #: an error code, or a word
    broken: list[str]  #: the broken rules
    what: str = ""  #: what was changed
    keep: tuple[Path, bytes] | None = None  #: a file to write if a rule is broken


class Project:
    """A project with version 0, two cycles, a pending and a rejected rollout. `restore` undoes all changes."""

    def __init__(self, folder: Path) -> None:
        from tests.faults.support.harness import InstantHarness

        self.paths = ProjectPaths(folder / "project")
        self._template = folder / "template"
        with InstantHarness(self.paths.project) as harness:
            harness.until_version(0)
            harness.run_cycle(1)
            harness.run_cycle(3)
            (harness.paths.exports / "rollout_9_bad.json").write_bytes(b'{"experiences": 5}')
            harness.write_rollouts(5)
            harness.until(lambda: harness.ledger.pending_count() == 1 and harness.ledger.rejected_count() == 1)
            harness.ledger.set_meta("notices", '{"2": {"W_X": "text"}}')
            harness.ledger.set_meta("recovered", '{"rollout_1.json": [2, 0.5]}')
        shutil.copytree(self.paths.project, self._template)

    def restore(self) -> None:
        """Make the project as it was at first. Its path stays the same."""
        if self.paths.project.exists():
            shutil.rmtree(self.paths.project)
        shutil.copytree(self._template, self.paths.project)

    def check_start(self) -> tuple[str, list[str], list[str]]:
        """Start a daemon and let it publish a model; return the outcome, the broken rules and the warnings."""
        from tests.faults.support.harness import InstantHarness

        try:
            with InstantHarness(self.paths.project, failures_before_parking=9) as harness:
                warnings = sorted(harness.warnings())
                broken = [f"after the start: {problem}" for problem in harness.ledger.problems()]
                broken += _publish(harness)
        except HotlapError as error:
            return error.code, wrong_with_error(error), []
        except Exception:  # noqa: BLE001  any exception is a finding
            return "raised", [traceback.format_exc()], []
        return "rebuilt" if "W_LEDGER_REBUILT" in warnings else "ok", broken, warnings

    def check_commands(self, *, with_doctor: bool) -> list[str]:
        """Run the commands that only read; return the broken rules. `doctor` takes seconds: it starts Python."""
        from daemon.cli import main

        broken = []
        for command in ("status", "history", *(("doctor",) if with_doctor else ())):
            out, err = io.StringIO(), io.StringIO()
            try:
                with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                    code = main([command, "--project", str(self.paths.project)])
            except BaseException:  # noqa: BLE001  also SystemExit
                broken.append(f"{command} raised {traceback.format_exc()}")
                continue
            if code not in {0, 1, 2} or "Traceback" in out.getvalue() + err.getvalue():
                broken.append(f"{command} ended with {code}: {err.getvalue()[-500:]}")
            if code == 2 and len(err.getvalue().splitlines()) != 1:
                broken.append(f"{command} did not write one line: {err.getvalue()[-500:]!r}")
        return broken

    def trained_twice(self) -> list[str]:
        """Return the rollouts that two models in Models were trained on."""
        used: Counter[str] = Counter()
        for folder, model in self.models():
            with contextlib.suppress(OSError, HotlapError):
                lineage = read_model(read_regular(model, limit=MAX_MODEL_BYTES)).lineage
                if folder.name == f"cycle_{lineage.cycle:06d}":
                    used.update(set(lineage.rollouts))
        return [f"rollout {sha256[:12]} was trained on twice" for sha256, count in used.items() if count > 1]

    def models(self) -> Iterator[tuple[Path, Path]]:
        """Yield each cycle's folder with one of its models."""
        for folder in sorted(self.paths.models.glob("cycle_*")):
            if model := next(iter(sorted(folder.glob("model_epoch_*.json"))), None):
                yield folder, model


def _publish(harness: InstantHarness) -> list[str]:
    """Let a daemon train on new rollouts; return the broken rules."""
    harness.ledger.set_meta("paused", None)
    before = harness.ledger.last_cycle_id()
    harness.write_rollouts(50, 51)
    harness.service.trigger("trigger")

    def is_published() -> bool:
        last = harness.ledger.last_publication()
        return last is not None and last.cycle_id > before and not harness.runner.busy

    harness.until(is_published)
    last = harness.ledger.last_publication()
    pointer = harness.paths.pointer.read_text("utf-8")
    broken = [f"{type(error).__name__} in a pass: {error}" for error in harness.failures]
    if last is None or pointer != (harness.paths.models / last.model).as_posix():
        broken.append(f"the pointer file contains {pointer!r}, but {last} was published")
    try:
        read_model(read_regular(Path(pointer), limit=MAX_MODEL_BYTES))
    except (OSError, HotlapError) as error:
        broken.append(f"the model that the pointer file names cannot be read: {error}")
    return broken + [f"at the end: {problem}" for problem in harness.ledger.problems()]


def wrong_with_error(error: HotlapError) -> list[str]:
    """Return how the line of an error is not as it must be."""
    line = error.line()
    rules = {
        "it has no code": error.code.startswith("E_"),
        "it is not printable": line.isprintable(),
        "it has no remedy": bool(error.hint) or "->" in line,
    }
    return [f"{rule}: {line[:500]!r}" for rule, is_kept in rules.items() if not is_kept]
