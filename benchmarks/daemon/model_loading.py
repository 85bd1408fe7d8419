"""The model JSON: its size, and the time to write it, read it and check its probe."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson

from benchmarks.lib.measurement import Figure, Section
from benchmarks.lib.progress import PrintProgress

NAME = "hotload"
HELP = "the model JSON: size, writing, reading with its probe"
WRITE_FLOOR, READ_FLOOR = "floor of writing: the bytes, fsync, rename", "floor of reading: orjson.loads alone"


def add_flags(p: argparse.ArgumentParser) -> None:
    """Add this benchmark's flags."""
    p.add_argument("--rounds", type=int, default=20, metavar="N", help="rounds of all measurements (20)")


def measure(arguments: argparse.Namespace, print_progress: PrintProgress) -> Section:
    """Write and read version 0, two layers of 128."""
    from benchmarks.lib.samples import first_checkpoint
    from schemas.model import check_probe, read_model
    from schemas.storage.files import write_atomic
    from trainer.checkpoints.export import export
    from trainer.simulate import model_file

    checkpoint = first_checkpoint()
    data = export(checkpoint, policy_version=1)
    document = orjson.loads(data)
    print_progress(f"{len(data) / 1e6:.2f} MB, {arguments.rounds} rounds")

    def by_json() -> None:
        model, document = model_file.parse_model(data)
        model_file.check_probe(model, document["probe"])

    with tempfile.TemporaryDirectory(prefix="hotlap-hotload-") as name:
        path = Path(name) / "model_epoch_1.json"
        parts: dict[str, tuple[str, Callable[[], object]]] = {
            "export, read back, probe": ("orjson.dumps alone", lambda: export(checkpoint, policy_version=1)),
            "write atomically": (WRITE_FLOOR, lambda: write_atomic(path, data)),
            "read with orjson, layers, probe": (READ_FLOOR, lambda: check_probe(read_model(data))),
            "read with json, layers, probe (the simulated engine)": (READ_FLOOR, by_json),
            "json.loads alone": (READ_FLOOR, lambda: json.loads(data)),
            "orjson.dumps alone": ("", lambda: orjson.dumps(document)),
            WRITE_FLOOR: ("", lambda: _bare_write(path, data)),
            READ_FLOOR: ("", lambda: orjson.loads(data)),
        }
        times: dict[str, list[float]] = {name: [] for name in parts}
        for k in range(arguments.rounds + 1):
            for part, (_, run) in parts.items():
                began = time.perf_counter()
                run()
                if k:  # the first round is not counted
                    times[part].append((time.perf_counter() - began) * 1e3)
    size = Figure("size of the JSON", "MB", (len(data) / 1e6,))
    figures = [size, *(Figure(part, "ms", tuple(times[part]), floor) for part, (floor, _) in parts.items())]
    return Section(NAME, "Loading a model while the game runs", tuple(figures), notes=("Two layers of 128.",))


def _bare_write(path: Path, data: bytes) -> None:
    temporary = path.with_name("bare.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
