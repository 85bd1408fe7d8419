"""The folders and files of a project; see 'The folders' in docs/reference/formats.md."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from schemas.storage.files import REAL_DISK

ROLLOUT_NAME = re.compile(r"rollout_.+\.json", re.IGNORECASE | re.DOTALL)
"""The name of a finished rollout; other files are never opened."""


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
        """Rollouts, from the engine to the daemon."""
        return self.training / "Exports"

    @property
    def rejected(self) -> Path:
        """Rejected rollouts, each with a file that contains the reason."""
        return self.training / "Rejected"

    @property
    def models(self) -> Path:
        """Models, from the daemon to the engine."""
        return self.training / "Models"

    @property
    def logs(self) -> Path:
        """Log files."""
        return self.training / "Logs"

    @property
    def state(self) -> Path:
        """Files that only the daemon uses."""
        return self.training / "State"

    @property
    def cache(self) -> Path:
        """Rollouts as arrays, named by their content hash; safe to delete at any time."""
        return self.state / "cache"

    @property
    def staging(self) -> Path:
        """The folder that a trainer writes to before anything is published."""
        return self.state / "staging"

    @property
    def commands(self) -> Path:
        """Commands to a running daemon."""
        return self.state / "commands"

    @property
    def ledger(self) -> Path:
        """The daemon's SQLite file."""
        return self.state / "ledger.sqlite3"

    @property
    def gone_cycles(self) -> Path:
        """The rollouts of removed cycle folders, one line for each cycle, to rebuild a lost ledger from."""
        return self.state / "gone_cycles.jsonl"

    @property
    def lock(self) -> Path:
        """The file that the running daemon holds a lock on; never removed."""
        return self.state / "daemon.lock"

    @property
    def status(self) -> Path:
        """What the daemon is doing now."""
        return self.training / "status.json"

    @property
    def pointer(self) -> Path:
        """The pointer file: the absolute path of the published model JSON, with forward slashes and no newline."""
        return self.models / "best_model_path.txt"

    @property
    def analysis(self) -> Path:
        """A copy of the newest cycle's ranking."""
        return self.models / "model_analysis.json"

    @property
    def daemon_log(self) -> Path:
        """The daemon's log."""
        return self.logs / "daemon.log"

    def cycle_folder(self, cycle: int) -> Path:
        """Return the folder of a published cycle."""
        return self.models / f"cycle_{cycle:06d}"

    def cycle_log(self, cycle: int) -> Path:
        """Return the trainer's log of a cycle."""
        return self.logs / f"cycle_{cycle}.log"

    def cached_rollout(self, sha256: str) -> Path:
        """Return the file of a rollout's arrays in the cache."""
        return self.cache / self.cache_name(sha256)

    @staticmethod
    def cache_name(sha256: str) -> str:
        """Return the name of a rollout's arrays in `cache`."""
        return f"{sha256}.columns"

    def folders(self) -> tuple[Path, ...]:
        """Return all folders that must exist before the daemon works."""
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
    """Return whether a file of this name is a finished rollout: not a `.json.tmp` and not a dot file."""
    return not name.startswith((".", "~")) and ROLLOUT_NAME.fullmatch(name) is not None
