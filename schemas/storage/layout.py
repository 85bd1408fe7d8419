"""The folders and files of a project; see 'The folders' in docs/reference/formats.md."""

from __future__ import annotations

import contextlib
import os
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from schemas.storage.careful_open import is_link_at
from schemas.storage.files import REAL_DISK
from schemas.storage.guarded import guard
from schemas.storage.windows_paths import engine_path, for_system, plain_path, working_folder

ROLLOUT_NAME = re.compile(r"rollout_.+\.json", re.IGNORECASE | re.DOTALL)
"""The name of a finished rollout; other files are never opened."""
MARK_NAME = "hotlap_project.json"
"""The name of the files in Models and in State that state which project these folders belong to."""
LEDGER_NAME = "ledger.sqlite3"
_LONGEST_BELOW = 140
"""Characters of the longest path below the project folder: that of an incomplete file in `State/cache`, rounded up."""
_TIME_STAMP = re.compile(r"_(\d{8}_\d{6})(?=[_.])")


@dataclass(frozen=True, slots=True)
class ProjectPaths:
    """The folders and files of one project.

    On Windows, a project folder whose files would have paths that are too long gets the prefix that allows them, and so
    do all paths below. `shown_path` and `engine_path` return paths for messages and for files that engines read.
    """

    project: Path
    engine_project: str = ""  #: the project folder as the engine names it, if that is another path
    state_folder: Path | None = None  #: the folder State, if it is not the one in Saved/Training

    def __post_init__(self) -> None:
        object.__setattr__(self, "project", for_system(self.project, reserve=_LONGEST_BELOW))
        guard(self.training, may_be_links=(self.models,))
        if self.state_folder is not None:
            guard(self.state_folder)

    def for_engine(self, path: Path) -> str:
        """Return the path of one of these files as text for the engine: absolute, forward slashes, no prefix."""
        if not self.engine_project:
            return engine_path(path)
        root = self.engine_project.replace("\\", "/").rstrip("/")
        return f"{root}/{path.relative_to(self.project).as_posix()}"

    @property
    def training(self) -> Path:
        """Return the folder that engine and daemon share."""
        return self.project / "Saved" / "Training"

    @property
    def exports(self) -> Path:
        """Return the folder of rollouts, which the engine writes."""
        return self.training / "Exports"

    @property
    def rejected(self) -> Path:
        """Return the folder of rejected rollouts, each with a file that contains the reason."""
        return self.training / "Rejected"

    @property
    def models(self) -> Path:
        """Return the folder of models, which the daemon writes."""
        return self.training / "Models"

    @property
    def receipts(self) -> Path:
        """Return the folder of receipts, which game clients write."""
        return self.training / "Receipts"

    @property
    def logs(self) -> Path:
        """Return the folder of log files."""
        return self.training / "Logs"

    @property
    def state(self) -> Path:
        """Return the folder of files that only the daemon uses."""
        return self.training / "State" if self.state_folder is None else self.state_folder

    @property
    def cache(self) -> Path:
        """Return the folder of rollouts as arrays, named by their content hash; safe to delete at any time."""
        return self.state / "cache"

    @property
    def staging(self) -> Path:
        """Return the folder that a trainer writes to before a model is published."""
        return self.state / "staging"

    @property
    def commands(self) -> Path:
        """Return the folder of commands to a running daemon."""
        return self.state / "commands"

    @property
    def ledger(self) -> Path:
        """Return the path of the ledger, the daemon's SQLite file."""
        return self.state / LEDGER_NAME

    @property
    def gone_cycles(self) -> Path:
        """Return the file with the rollouts of removed cycle folders, one line for each, to rebuild a lost ledger."""
        return self.state / "gone_cycles.jsonl"

    @property
    def compared_rollouts(self) -> Path:
        """Return the file with what is kept of the last rollouts, to compare later ones; safe to delete at any time."""
        return self.state / "compared_rollouts.npz"

    @property
    def lock(self) -> Path:
        """Return the file that the running daemon has locked; it is never removed."""
        return self.state / "daemon.lock"

    @property
    def status(self) -> Path:
        """Return the path of status.json."""
        return self.training / "status.json"

    @property
    def pointer(self) -> Path:
        """Return the pointer file: the absolute path of the published model JSON, with forward slashes, no newline."""
        return self.models / "best_model_path.txt"

    @property
    def analysis(self) -> Path:
        """Return the copy of the newest cycle's ranking."""
        return self.models / "model_analysis.json"

    @property
    def daemon_log(self) -> Path:
        """Return the daemon's log."""
        return self.logs / "daemon.log"

    @property
    def project_mark(self) -> Path:
        """Return the file in Models that states which project Models belongs to."""
        return self.models / MARK_NAME

    @property
    def state_mark(self) -> Path:
        """Return the file in State that states which project State belongs to."""
        return self.state / MARK_NAME

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
        """Return all folders that must exist before the daemon starts."""
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

    def folders_to_make(self) -> tuple[Path, ...]:
        """Return the folders that Hotlap creates: not an Exports that is a link to the engine's own folder."""
        return tuple(folder for folder in self.folders() if folder != self.exports or not is_link_at(folder))

    def leave(self) -> None:
        """If the current folder is in the folders that Hotlap changes, make the project folder the current one.

        Windows does not rename or remove a folder that is a process's current folder.
        """
        with contextlib.suppress(OSError):
            if Path.cwd().is_relative_to(plain_path(self.training)):
                os.chdir(working_folder(self.project))

    def make(self) -> None:
        """Create the folders that are missing."""
        for folder in self.folders_to_make():
            REAL_DISK.make_folder(folder)


def time_stamp_of(name: str) -> float | None:
    """Return the time in a rollout's name in seconds since 1970, read as local time; None if it has none.

    The engine may have another time zone, so the result can be hours off.
    """
    found = _TIME_STAMP.search(name)
    if found is None:
        return None
    try:
        return datetime.strptime(found[1], "%Y%m%d_%H%M%S").timestamp()  # noqa: DTZ007  local time is meant
    except (ValueError, OverflowError, OSError):
        return None


def is_rollout_name(name: str) -> bool:
    """Return whether a file of this name is a finished rollout: not a `.json.tmp` and not a dot file."""
    return not name.startswith((".", "~")) and ROLLOUT_NAME.fullmatch(name) is not None
