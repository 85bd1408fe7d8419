"""Changed folders of models: damaged, missing, copied, foreign and linked entries, with the ledger or without it."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from daemon.errors import DaemonError
from daemon.runtime.own_folders import require_own_folders
from scripts.faults.lib.fuzzing.project import Case, Project, wrong_with_error
from scripts.faults.lib.mutations import mutated

_FOREIGN_NAMES = (
    *("cycle_000900", "cycle_000003", "cycle_000004", "cycle_99999999999999999999", "cycle_7", "CYCLE_000005"),
    *("model_epoch_1.pt", "model_epoch_2.json", "model_epoch_9.json", "model_analysis.json", "best_model_path.txt"),
    *("hotlap_project.json", "champion.json", "notes.txt", "cycle_000001.zip", ".cycle_000004.00000000.tmp"),
)
_KINDS = ("a file", "an empty folder", "a folder", "a link to a folder", "a link to a file", "a broken link")
_OURS = frozenset({"hotlap_project.json", "champion.json", ".cycle_000004.00000000.tmp"})
"""Names that Hotlap writes over or removes, whatever they contain."""


class ModelFolderCases:
    """Changes Models, and starts a daemon on the project. What belongs to others must be somewhere afterwards."""

    unit = "model folders"

    def __init__(self, folder: Path) -> None:
        self._project = Project(folder)
        self._outside = folder / "outside"

    def check(self, rng: random.Random) -> Case:
        """Check one changed folder."""
        project, outside = self._project, self._outside
        project.restore()
        shutil.rmtree(outside, ignore_errors=True)
        (outside / "folder").mkdir(parents=True)
        (outside / "file").write_text("outside file")
        (outside / "folder" / "model_epoch_1.json").write_text("outside model")
        foreign: dict[str, str] = {}
        done = [_change(rng, project.paths.models, outside, foreign) for _ in range(rng.choice((1, 1, 2, 3, 5)))]
        is_lost = rng.random() < 0.25
        if is_lost:
            shutil.rmtree(project.paths.state)
            done.append("State is missing")
        broken = project.check_commands(with_doctor=rng.random() < 0.02)
        try:
            require_own_folders(project.paths)
        except DaemonError as error:
            return Case(error.code, broken + wrong_with_error(error), "; ".join(done))
        outcome, more, _ = project.check_start()
        broken += more + ([] if is_lost else project.trained_twice())
        found = _texts_in(project.paths.training)
        broken += [f"{name} of another program is lost" for name, text in foreign.items() if text not in found]
        if _texts_in(outside) != {"outside file", "outside model"}:
            broken.append("a file outside of the project was changed")
        return Case(outcome, broken, "; ".join(done))


def _texts_in(folder: Path) -> set[str]:
    """Return the contents of small files in a folder and below; of links, nothing."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.read_text("utf-8", "replace") for path in files if path.stat().st_size < 100}


def _change(rng: random.Random, models: Path, outside: Path, foreign: dict[str, str]) -> str:
    change: Callable[[], str] = rng.choice(
        (
            lambda: _damage(rng, models),
            lambda: _damage(rng, models),
            lambda: _copy_folder(rng, models, foreign),
            lambda: _add(rng, models, outside, foreign),
            lambda: _add(rng, models, outside, foreign),
            lambda: _pointer(rng, models),
        )
    )
    return change()


def _damage(rng: random.Random, models: Path) -> str:
    """Change, empty, remove or replace one of Hotlap's files."""
    files = sorted(path for path in models.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        return "nothing to damage"
    path = rng.choice(files)
    data = path.read_bytes()
    if len(data) < 100 and data.startswith(b"foreign"):
        return "nothing"
    kind = rng.choice(("changed", "empty", "missing", "a folder", "cut", "that of another"))
    match kind:
        case "changed":
            path.write_bytes(mutated(rng, [data]))
        case "cut":
            path.write_bytes(data[: rng.randrange(len(data) + 1)])
        case "empty":
            path.write_bytes(b"")
        case "that of another":
            path.write_bytes(rng.choice(files).read_bytes())
        case _:
            path.unlink()
            if kind == "a folder":
                path.mkdir()
    return f"{path.relative_to(models).as_posix()} is {kind}"


def _copy_folder(rng: random.Random, models: Path, foreign: dict[str, str]) -> str:
    """Copy or move a cycle's folder to another number, or remove it."""
    folders = sorted(path for path in models.glob("cycle_*") if path.is_dir() and not path.is_symlink())
    if not folders:
        return "no folder"
    source = rng.choice(folders)
    target = models / f"cycle_{rng.choice((0, 1, 2, 3, 4, 77, 999_999, 1_234_567)):06d}"
    kind = rng.choice(("copied", "moved", "removed"))
    if kind == "removed":
        if any(name.partition("/")[0] == source.name for name in foreign):
            return "nothing"
        shutil.rmtree(source)
        return f"{source.name} is removed"
    if os.path.lexists(target):
        return "nothing"
    if kind == "copied":
        shutil.copytree(source, target, symlinks=True)
    else:
        source.rename(target)
    return f"{source.name} is {kind} to {target.name}"


def _add(rng: random.Random, models: Path, outside: Path, foreign: dict[str, str]) -> str:
    """Put an entry of another program into Models."""
    path, kind = models / rng.choice(_FOREIGN_NAMES), rng.choice(_KINDS)
    if path.is_dir() and not path.is_symlink():
        path /= "notes.txt"
        kind = "a file"
    if os.path.lexists(path):
        path.unlink()
        foreign.pop(path.relative_to(models).as_posix(), None)
    text = f"foreign {rng.random()}"
    match kind:
        case "a file":
            path.write_text(text)
        case "an empty folder" | "a folder":
            path.mkdir()
            if kind == "a folder":
                (path / "model_epoch_1.json").write_text(text)
        case _:
            path.symlink_to(
                {"a link to a folder": outside / "folder", "a link to a file": outside / "file"}.get(
                    kind, outside / "nothing"
                )
            )
    name = path.relative_to(models).as_posix()
    if kind in {"a file", "a folder"} and path.name not in _OURS and path.name != "best_model_path.txt":
        foreign[name] = text
    return f"{name} is {kind}"


def _pointer(rng: random.Random, models: Path) -> str:
    """Let the pointer file name something else."""
    names = ("cycle_000001/model_epoch_2.json", "cycle_000000/model_epoch_0.json", "cycle_000009/model_epoch_2.json")
    text = rng.choice((*((models / name).as_posix() for name in names), "/elsewhere/model_epoch_1.json", "x" * 70_000))
    pointer = models / "best_model_path.txt"
    if os.path.lexists(pointer) and (pointer.is_symlink() or not pointer.is_file()):
        return "nothing"
    pointer.write_text(text)
    return f"the pointer file contains {text[-40:]!r}"
