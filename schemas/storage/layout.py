"""Where everything lies under a project folder (Contract 1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from schemas.storage.files import REAL_DISK

ROLLOUT_NAME = re.compile(r"rollout_.+\.json", re.IGNORECASE | re.DOTALL)
"""What a rollout file's name looks like; `.json.tmp` and dot files do not match and are never opened."""


@dataclass(frozen=True, slots=True)
class ProjectPaths:
    """The folders and files of one project."""

    project: Path

    @property
    def training(self) -> Path:
        """The folder that engine and daemon share."""
        return self.project / "Saved" / "Training"

    @property
    def exports(self) -> Path:
        """Rollouts, engine to daemon."""
        return self.training / "Exports"

    @property
    def rejected(self) -> Path:
        """Rollouts that could not be used, each beside its reason."""
        return self.training / "Rejected"

    @property
    def models(self) -> Path:
        """Models, daemon to engine."""
        return self.training / "Models"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.training / "Logs"

    @property
    def state(self) -> Path:
        """What is the daemon's alone."""
        return self.training / "State"

    @property
    def cache(self) -> Path:
        """Rollouts as arrays, by content hash; safe to delete at any time."""
        return self.state / "cache"

    @property
    def staging(self) -> Path:
        """Where a trainer writes before anything is published."""
        return self.state / "staging"

    @property
    def commands(self) -> Path:
        """Orders from the command line to a running daemon."""
        return self.state / "commands"

    @property
    def ledger(self) -> Path:
        """The daemon's SQLite file."""
        return self.state / "ledger.sqlite3"

    @property
    def gone_cycles(self) -> Path:
        """What the removed cycle folders told of their rollouts, a line each: a ledger can be rebuilt from it."""
        return self.state / "gone_cycles.jsonl"

    @property
    def lock(self) -> Path:
        """Held by the one daemon of this project; never removed."""
        return self.state / "daemon.lock"

    @property
    def status(self) -> Path:
        """What the daemon is doing now."""
        return self.training / "status.json"

    @property
    def pointer(self) -> Path:
        """Names the published model JSON: one absolute path, forward slashes, no newline."""
        return self.models / "best_model_path.txt"

    @property
    def analysis(self) -> Path:
        """The newest cycle's ranking, copied."""
        return self.models / "model_analysis.json"

    @property
    def daemon_log(self) -> Path:
        """The daemon's own log."""
        return self.logs / "daemon.log"

    def cycle_folder(self, cycle: int) -> Path:
        """A published cycle's own folder."""
        return self.models / f"cycle_{cycle:06d}"

    def cycle_log(self, cycle: int) -> Path:
        """The trainer's log of one cycle."""
        return self.logs / f"cycle_{cycle}.log"

    def cached_rollout(self, sha256: str) -> Path:
        """A rollout's arrays in the cache."""
        return self.cache / self.cache_name(sha256)

    @staticmethod
    def cache_name(sha256: str) -> str:
        """What a rollout's arrays are called in `cache`."""
        return f"{sha256}.columns"

    def folders(self) -> tuple[Path, ...]:
        """All folders that must exist before work starts."""
        return (
            self.exports,
            self.rejected,
            self.models,
            self.logs,
            self.state,
            self.cache,
            self.staging,
            self.commands,
        )

    def make(self) -> None:
        """Create the folders that are missing."""
        for folder in self.folders():
            REAL_DISK.make_folder(folder)


def is_rollout_name(name: str) -> bool:
    """Return whether a file of this name is meant as a finished rollout."""
    return not name.startswith((".", "~")) and ROLLOUT_NAME.fullmatch(name) is not None
