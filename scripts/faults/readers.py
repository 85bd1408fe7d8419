"""Engines that load models while new ones are published: `python -m scripts.faults.readers --reads 50000`.

Each read does what an engine does: it reads best_model_path.txt, opens that model, parses it and compares its probe.
The model must be complete, identical to the published one, and not older than at the read before.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from daemon.publishing.publish import publish
from schemas.contract import ContinuousActions, PolicyContract
from schemas.job import Result
from schemas.model import Dense, Float32, Lineage, Model, Probe, Stack, check_probe, model_to_bytes, read_model
from schemas.storage.files import sha256_of
from schemas.storage.layout import ProjectPaths
from scripts.faults.lib.progress import NoProgress, Progress

_PAUSE_S = 0.02 if sys.platform == "win32" else 0.0
"""Between two reads. Windows cannot replace a file that a program has open, so all must have it closed at times."""
CONTRACT = PolicyContract(observation_size=15, action_space=ContinuousActions.named(("steer", "throttle", "brake")))


def small_model(version: int, *, hidden: int = 16) -> Model:
    """Return a model with random weights and a probe that it passes."""
    rng = np.random.default_rng(version)

    def numbers(*shape: int) -> Float32:
        return rng.normal(0.0, 0.3, size=shape).astype(np.float32)

    def stack(outputs: int) -> Stack:
        sizes = (CONTRACT.observation_size, hidden)
        return Stack(
            (Dense(numbers(hidden, sizes[0]), numbers(hidden)),), Dense(numbers(outputs, hidden), numbers(outputs))
        )

    model = Model(
        contract=CONTRACT,
        policy=stack(3),
        value_function=stack(1),
        action_log_std=np.full(3, -0.7, dtype=np.float32),
        policy_version=version,
        probe=None,
        lineage=Lineage(cycle=version, epoch=1),
    )
    observations = numbers(8, CONTRACT.observation_size)
    return replace(model, probe=Probe(observations, model.mean(observations), model.value(observations)))


@dataclass(slots=True)
class Tally:
    """The results of all readers."""

    reads: int = 0
    is_published: bool = False  #: whether the last version was published
    versions: set[int] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


class NoOtherFiles:
    """A project in which no other program writes to Models."""

    unreadable: frozenset[str] = frozenset()

    def set_aside(self) -> frozenset[str]:
        """Move nothing."""
        return frozenset()

    def set_aside_folder(self, folder: Path) -> None:
        """Move nothing."""

    def remove_copied(self) -> None:
        """Remove nothing."""


class Publisher:
    """Publishes one version after another, and records the hash of each before it is published."""

    def __init__(self, folder: Path) -> None:
        self.paths = ProjectPaths(folder)
        self.paths.make()
        self.published: dict[str, str] = {}  #: path as in the pointer file -> SHA-256

    def publish(self, version: int) -> None:
        """Publish a model as a cycle does."""
        staging = self.paths.staging / f"cycle_{version:06d}"
        staging.mkdir()
        files = {
            "model_epoch_1.json": model_to_bytes(small_model(version)),
            "model_epoch_1.pt": f"checkpoint {version}".encode(),
            "model_analysis.json": b"{}",
        }
        for name, data in files.items():
            (staging / name).write_bytes(data)
        result = Result(
            epoch=1,
            score=None,
            model="model_epoch_1.json",
            checkpoint="model_epoch_1.pt",
            files={name: sha256_of(data) for name, data in files.items()},
            contract=CONTRACT,
            hidden_sizes=(16,),
        )
        path = self.paths.cycle_folder(version) / result.model
        self.published[path.absolute().as_posix()] = result.files[result.model]
        publish(
            result,
            staging=staging,
            cycle=version,
            contract=CONTRACT,
            paths=self.paths,
            keep_checkpoints=True,
            others=NoOtherFiles(),
        )


def read_once(paths: ProjectPaths, published: dict[str, str], newest: int) -> int:
    """Load the model that the pointer file names; return its version. Raises if a check fails."""
    text = paths.pointer.read_bytes().decode("utf-8")
    path = Path(text)
    assert path.is_absolute(), f"{text!r} is not absolute"
    assert path.is_relative_to(paths.models.absolute()), f"{text} is outside of Models"
    data = path.read_bytes()
    assert sha256_of(data) == published[text], f"{text} was changed after it was published"
    model = read_model(data)
    check_probe(model)
    assert model.policy_version >= newest, f"version {model.policy_version} after version {newest}"
    return model.policy_version


def _read(publisher: Publisher, tally: Tally, reads: int) -> None:
    newest = 0
    while not tally.failures:
        with tally.lock:
            if tally.reads >= reads and tally.is_published:
                return
            tally.reads += 1
        try:
            newest = read_once(publisher.paths, publisher.published, newest)
            tally.versions.add(newest)
        except Exception as error:  # noqa: BLE001  any exception is a finding
            tally.failures.append(f"{type(error).__name__}: {error}")
        time.sleep(_PAUSE_S)


def run(folder: Path, *, reads: int, publishes: int, readers: int = 4, progress: Progress | None = None) -> Tally:
    """Publish at regular intervals until all readers together have made at least `reads` reads."""
    publisher, tally = Publisher(folder), Tally()
    progress = progress or NoProgress()
    progress.count_with(lambda: tally.reads)
    publisher.publish(0)
    threads = [threading.Thread(target=_read, args=(publisher, tally, reads)) for _ in range(readers)]
    for thread in threads:
        thread.start()
    try:
        for version in range(1, publishes + 1):
            while tally.reads < reads * version // (publishes + 1) and not tally.failures:
                time.sleep(0.001)
            publisher.publish(version)
    except BaseException as error:
        tally.failures.append(f"the publisher failed: {error}")  # ends the readers
        raise
    finally:
        tally.is_published = True
        for thread in threads:
            thread.join()
    return tally


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the readers and print the counts; return 1 if a read failed."""
    parser = argparse.ArgumentParser(prog="python -m scripts.faults.readers", description=__doc__)
    parser.add_argument("--reads", type=int, default=50_000)
    parser.add_argument("--publishes", type=int, default=200)
    parser.add_argument("--readers", type=int, default=4)
    options = parser.parse_args(arguments)
    began = time.monotonic()
    with Progress("readers", options.reads, unit="reads") as progress, tempfile.TemporaryDirectory() as folder:
        tally = run(
            Path(folder), reads=options.reads, publishes=options.publishes, readers=options.readers, progress=progress
        )
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"{tally.reads:,} reads by {options.readers} readers during {options.publishes} publishes in {seconds:.0f} s: "
        f"{len(tally.failures)} failures, {len(tally.versions)} different versions\n"
    )
    sys.stdout.writelines(f"  {failure}\n" for failure in tally.failures)
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main())
