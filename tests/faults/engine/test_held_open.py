"""An engine that keeps the pointer file and models open for a while: on Windows this refuses renames (row 64)."""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.model import check_probe, read_model
from schemas.storage.files import sha256_of
from schemas.storage.layout import ProjectPaths
from scripts.faults import readers
from tests.faults.support.harness import InstantHarness, violations

PUBLISHES = 50
RETRY_S = 5.0  #: an engine that cannot read a file for so long has failed
SHARE_READ, SHARE_WRITE, SHARE_DELETE = 1, 2, 4
only_windows = pytest.mark.skipif(sys.platform != "win32", reason="other systems have no sharing flags")
SHARING = [
    pytest.param((SHARE_READ,), id="read, as Unreal", marks=only_windows),
    pytest.param((SHARE_READ | SHARE_WRITE,), id="read and write, as the C runtime", marks=only_windows),
    pytest.param((0,), id="nothing", marks=only_windows),
    pytest.param((SHARE_READ, SHARE_READ | SHARE_WRITE | SHARE_DELETE), id="two engines"),
]

if sys.platform == "win32":
    import ctypes
    import msvcrt

    def open_sharing(path: Path, share: int) -> int:
        """Open a file for reading as CreateFileW does with these sharing flags. Raises OSError."""
        create = ctypes.WinDLL("kernel32", use_last_error=True).CreateFileW
        create.restype = ctypes.c_void_p
        create.argtypes = (
            ctypes.c_wchar_p,
            *[ctypes.c_uint32] * 2,
            ctypes.c_void_p,
            *[ctypes.c_uint32] * 2,
            ctypes.c_void_p,
        )
        generic_read, open_existing = 0x8000_0000, 3
        handle = create(str(path), generic_read, share, None, open_existing, 0, None)
        if handle == ctypes.c_void_p(-1).value:
            raise ctypes.WinError(ctypes.get_last_error())
        return msvcrt.open_osfhandle(handle, os.O_RDONLY | os.O_BINARY)

else:

    def open_sharing(path: Path, share: int) -> int:
        """Open a file for reading. Other systems than Windows have no sharing flags."""
        return os.open(path, os.O_RDONLY)


@contextlib.contextmanager
def held(path: Path, share: int) -> Iterator[bytes]:
    """Open a file, return its content, and close it at the end. Raises OSError."""
    with open(open_sharing(path, share), "rb") as file:  # noqa: PTH123  a descriptor
        yield file.read()


class Engine(threading.Thread):
    """Loads the published model again and again, and holds both files open for random moments.

    If a file cannot be read, it reads again a moment later, as the guide for engines requires.
    """

    def __init__(self, publisher: readers.Publisher, share: int, seed: int) -> None:
        super().__init__(daemon=True)
        self.paths, self.published = publisher.paths, publisher.published
        self.share, self.random = share, random.Random(seed)
        self.loads = self.retries = 0
        self.version = -1  #: of the model that it uses
        self.versions: set[int] = set()
        self.failures: list[str] = []
        self.is_stopped = threading.Event()

    def run(self) -> None:
        failing_since = None
        while not (self.is_stopped.is_set() or self.failures):
            try:
                self.load()
                failing_since = None
            except OSError as error:
                self.retries += 1
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > RETRY_S:
                    self.failures.append(f"not readable for {RETRY_S:g} s: {error}")
            except Exception as error:  # noqa: BLE001  any other exception is a finding
                self.failures.append(f"{type(error).__name__}: {error}")
            self.pause(0.1)

    def load(self) -> None:
        with held(self.paths.pointer, self.share) as text:
            self.pause(0.03)
        path = text.decode("utf-8")
        with held(Path(path), self.share) as data:
            self.pause(0.05)
        assert sha256_of(data) == self.published[path], f"{path} is not what was published"
        model = read_model(data)
        check_probe(model)
        assert model.policy_version >= self.version, f"version {model.policy_version} after version {self.version}"
        self.version = model.policy_version
        self.versions.add(self.version)
        self.loads += 1

    def pause(self, most_s: float) -> None:
        """Wait for a random time."""
        time.sleep(self.random.uniform(0.0, most_s))

    def stop(self) -> None:
        self.is_stopped.set()
        self.join()


class PatientPublisher(readers.Publisher):
    """Publishes again what could not be published because a file was held open, as the daemon does."""

    refusals = 0

    def publish(self, version: int) -> None:
        """Publish a model as a cycle does."""
        with contextlib.suppress(PermissionError):
            return super().publish(version)
        self.refusals += 1
        return self.publish(version)


@pytest.mark.fault(64)
@pytest.mark.parametrize("shares", SHARING)
def test_engines_that_hold_the_files_open_never_fail_and_no_publish_is_lost(tmp_path, shares):
    publisher = PatientPublisher(tmp_path)
    publisher.publish(0)
    engines = [Engine(publisher, share, seed) for seed, share in enumerate(shares)]
    for engine in engines:
        engine.start()
    for version in range(1, PUBLISHES + 1):
        publisher.publish(version)
        while any(engine.loads < version // 3 and not engine.failures for engine in engines):
            time.sleep(0.002)
    for engine in engines:
        engine.stop()
    for engine in engines:
        assert engine.failures == []
        assert len(engine.versions) > 5
    assert publisher.paths.pointer.read_text(encoding="utf-8") == list(publisher.published)[-1]
    for path, sha256 in publisher.published.items():
        assert sha256_of(Path(path).read_bytes()) == sha256


def pointed_at(paths: ProjectPaths) -> str:
    return paths.pointer.read_text(encoding="utf-8").removeprefix(f"{paths.models.absolute().as_posix()}/")


@pytest.mark.fault(64)
@pytest.mark.parametrize("share", [SHARE_READ, 0], ids=["read", "nothing"])
def test_a_pointer_file_that_is_held_for_longer_delays_the_publish(fresh_project, share):
    """On Windows: the publish is tried again, and the engine keeps a complete file."""
    folder = fresh_project()
    with InstantHarness(folder) as harness:
        harness.run_cycle(1)
        with held(harness.paths.pointer, share) as before:
            harness.write_rollouts(3, 4)
            harness.until(lambda: "W_PUBLISH" in harness.warnings() or harness.version == 2)
            if sys.platform == "win32":
                assert harness.version == 1
                assert harness.warnings() == {"W_PUBLISH"}
        assert before.decode().endswith("cycle_000001/model_epoch_2.json")
        harness.until_version(2)
        harness.until(lambda: not harness.warnings())
        assert pointed_at(harness.paths) == "cycle_000002/model_epoch_2.json"
    assert violations(folder) == ()


@pytest.mark.fault(64)
@pytest.mark.parametrize("name", ["model_analysis.json", "model_epoch_0.pt"], ids=["replaced", "removed"])
def test_a_copy_that_a_tool_holds_open_delays_nothing_and_is_replaced_later(fresh_project, name):
    folder = fresh_project()
    with InstantHarness(folder) as harness:
        copy = harness.paths.models / name
        with held(copy, 0) as before:
            harness.run_cycle(1)
            assert pointed_at(harness.paths) == "cycle_000001/model_epoch_2.json"
            assert harness.warnings() == ({"W_COPIES"} if sys.platform == "win32" else set())
        assert (copy.exists() and copy.read_bytes() == before) == (sys.platform == "win32")
        harness.run_cycle(3)
        assert harness.warnings() == set()
        published = harness.paths.cycle_folder(2) / name
        assert copy.exists() == published.exists()
        assert not copy.exists() or copy.read_bytes() == published.read_bytes()
    assert violations(folder) == ()
