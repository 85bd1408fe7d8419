"""A small game client in Python, with mistakes that are switched on by name: small_client.py PROJECT [MISTAKE ...]."""

import json
import os
import sys
import time
from datetime import datetime
from pathlib import Path

import numpy as np

from trainer.simulate.model_file import ModelFileError, check_probe, parse_model
from trainer.simulate.rollout_file import ExportedRollout, version_1

AGENTS, STEPS = 4, 60
LOW, HIGH = np.array([-1.0, 0.0], np.float32), np.array([1.0, 1.0], np.float32)


class Client:
    def __init__(self, project, mistakes):
        training = Path(project) / "Saved" / "Training"
        self.pointer, self.exports, self.status = (
            training / "Models" / "best_model_path.txt",
            training / "Exports",
            training / "status.json",
        )
        self.mistakes = mistakes
        self.model = self.loaded = self.held = None
        self.index = 0
        if "reuses names" not in mistakes:
            self.index = len(list(self.exports.glob("rollout_*.json")))
        self.rng = np.random.default_rng()

    def load(self):
        if self.model is not None and "never reloads" in self.mistakes:
            return
        try:
            if "holds the pointer" in self.mistakes:
                self.held = self.held or self.pointer.open("rb")
            text = self.pointer.read_text(encoding="utf-8")
            if text == self.loaded:
                return
            model, document = parse_model(Path(text).read_bytes())
        except (OSError, ModelFileError):
            if "needs the pointer" in self.mistakes and self.model is not None:
                raise
            return
        self.loaded = text
        try:
            if "ignores the probe" not in self.mistakes:
                check_probe(model, document.get("probe"))
            if self.model is None or model.sizes == self.model.sizes:
                self.model = model
        except ModelFileError:
            return

    def is_waiting(self):
        """Return whether it waits, wrongly, because the daemon is parked."""
        try:
            return "waits while parked" in self.mistakes and json.loads(self.status.read_bytes())["state"] == "parked"
        except OSError:
            return False

    def play(self):
        n = AGENTS * STEPS
        observations = self.rng.normal(size=(n, 3)).astype(np.float32).cumsum(axis=0)[:n] % 2.0
        mean = self.model.mean(observations).astype(float)
        std = np.exp(self.model.action_log_std.astype(float))
        drawn = self.rng.normal(mean, std)
        actions = np.clip(drawn, LOW, HIGH).astype(np.float32)
        log_probs = -0.5 * ((actions - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)
        return ExportedRollout(
            observations=observations,
            actions=actions,
            rewards=np.ones(n, np.float32),
            terminated=np.arange(n) // AGENTS % 20 == 19,
            truncated=np.zeros(n, bool),
            log_probs=log_probs.sum(axis=1).astype(np.float32),
            values=self.model.value(observations),
            agents=(np.arange(n) % AGENTS).astype(np.int32),
            action_names=("turn", "push"),
        )

    def write(self, rollout):
        now = datetime.now().astimezone()
        if "reuses names" in self.mistakes:
            now = now.replace(2026, 1, 1, 0, 0, 0)
        path = self.exports / f"rollout_{self.index}_{now:%Y%m%d_%H%M%S}.json"
        self.index += 1
        data = version_1(rollout, now).encode()
        if "writes in place" in self.mistakes:
            with path.open("wb", buffering=0) as file:
                for start in range(0, len(data), 20000):
                    file.write(data[start : start + 20000])
                    time.sleep(0.1)
            return
        temporary = path.with_name(path.name + ".tmp")
        temporary.write_bytes(data)
        os.replace(temporary, path)


def main(project, *mistakes):
    client = Client(project, mistakes)
    while True:
        client.load()
        time.sleep(0.05)
        if client.model is not None and not client.is_waiting():
            client.write(client.play())


if __name__ == "__main__":
    main(*sys.argv[1:])
