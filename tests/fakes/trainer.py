"""A trainer that does not train: it follows the protocol, and can fail in every way in which a real one can.

Usage: trainer.py MODE. The tests start it instead of `python -m trainer serve`. It writes plain JSON and imports
almost nothing, so that it ends within a tenth of a second.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PIDS_NAME = "descendants.txt"
"""A file in State with the pids of the processes that the trainer started, one in each line."""
GO_ON_NAME = "go_on"
"""A file in State: as long as it does not exist, a trainer that lingers does not end after its last epoch."""
SLEEPER = "import time; time.sleep(3600)"
DOUBLE_FORKED = f"""
import os, subprocess, sys
if sys.platform == "win32":
    if len(sys.argv) == 2:
        subprocess.Popen([*sys.orig_argv, "again"], creationflags=subprocess.DETACHED_PROCESS)
        os._exit(0)
else:
    if os.fork():
        os._exit(0)
    os.setsid()
child = subprocess.Popen([sys.executable, "-c", {SLEEPER!r}], start_new_session=True)
with open(sys.argv[1], "a") as file:
    file.write(f"{{os.getpid()}}\\n{{child.pid}}\\n")
import time; time.sleep(3600)
"""
MARKER_VARIABLE = "MARKER_OF_A_PICKLE"


class Poison:
    """An object whose pickle runs a command if it is loaded without `weights_only`."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def send(event: str, **fields: object) -> None:
    """Send an event."""
    sys.stdout.buffer.write(json.dumps({"event": event, **fields}).encode() + b"\n")
    sys.stdout.buffer.flush()


def epoch_done(epoch: int, epochs: int, value_loss: float | None = None) -> None:
    losses = {"value_loss": value_loss}
    send("epoch", epoch=epoch, epochs=epochs, losses=losses, score=0.5, seconds=0.01)


def lifeline() -> None:
    """End this process when standard input ends."""
    copy = os.dup(0)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)  # why: schemas.process.lifeline.take_stdin
    while os.read(copy, 1024):
        pass
    os._exit(1)


def flood(megabytes: int) -> None:
    """Write much to both streams: without newlines, invalid UTF-8, escape sequences, lines that look like epochs."""
    block = b"x" * (1 << 20)
    dirty = (b"\x1b[2J\x1b]52;c;aGk=\x07\xff\xfe epoch 99 of 1 \xc2\x9b31m tail \n" * 20_000)[: 1 << 20]
    for _ in range(megabytes):
        os.write(1, block)
        os.write(2, dirty)
    os.write(1, b"\n")
    os.write(2, b"\nthe end of the flood\n")


def send_false_events() -> None:
    """Send well-formed events with impossible values."""
    for epoch in (-1, 0, 10**9, 1, 1, 1):
        epoch_done(epoch, 0)
    for i in range(3000):
        send("epoch", epoch=1, epochs=1, losses={}, score=None, seconds=-1.0)
        send("heartbeat", doing="\x1b[31mred" * 100, progress=float("1e308") if i % 2 else -5.0)
        send("notice", code=f"W_FALSE_\x1b[0m{i}", message=f"notice {i}")
    sys.stdout.buffer.write(b'{"event": "epoch", "epoch": NaN}\n{"event": []}\n[]\n\x00\n' * 100)
    sys.stdout.buffer.flush()


def start_descendants(names: Path) -> None:
    """Start a child in this session, one in another, and a double fork with a child; write their pids to a file.

    Windows: the child of an ended process, without a console, takes the place of the double fork.
    """
    same = subprocess.Popen([sys.executable, "-c", SLEEPER])
    own = subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True)
    with names.open("a") as file:
        file.write(f"{same.pid}\n{own.pid}\n")
    subprocess.run([sys.executable, "-c", DOUBLE_FORKED, str(names)], check=True)
    while len(names.read_text().split()) < 4:
        time.sleep(0.01)


def refuse(rollouts: list[dict[str, Any]], name: str) -> None:
    """Fail and name the rollout, if it is in the job."""
    found = [{"sha256": r["sha256"], "name": r["name"], "reason": "a reward is 9e+11"} for r in rollouts]
    if suspects := [suspect for suspect in found if suspect["name"] == name]:
        send("error", code="E_PROBE", message=f"{name}: a reward is 9e+11 [E_PROBE]", suspects=suspects)
        sys.exit(65)


def misbehave(mode: str, output: Path) -> None:
    """Fail, end or hang before the training, if this is the mode's fault."""
    if mode == "dies":
        if sys.platform == "win32":
            import ctypes

            ctypes.windll.kernel32.TerminateProcess(ctypes.c_void_p(-1), 0xC0000017)  # itself: no memory
        os.kill(os.getpid(), signal.SIGKILL)
    if mode == "fails":
        send("error", code="E_DATA", message="these rollouts are no good")
        sys.exit(65)
    if mode == "runs out of memory":
        send("error", code="E_MEMORY", message="out of memory")
        sys.exit(75)
    if mode == "traceback":
        raise RuntimeError("a bug")
    if mode in {"silent", "deaf"}:
        time.sleep(3600)
    if mode == "closes its output":
        os.close(1)
        time.sleep(3600)
    if mode == "talks on":
        while True:
            send("heartbeat", doing=f"thinking {time.monotonic()}", progress=0.1)
            sys.stderr.write("still thinking\n")
            time.sleep(0.02)
    if mode == "stops":
        os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(3600)
    if mode == "stubborn":
        subprocess.Popen([sys.executable, "-c", SLEEPER], start_new_session=True)
        time.sleep(3600)
    if mode == "nothing":
        sys.exit(0)
    if mode.startswith("descendants"):
        start_descendants(output.parents[1] / PIDS_NAME)
        if mode == "descendants, then hangs":
            time.sleep(3600)
        if mode == "descendants, then fails":
            sys.exit(1)
    if mode.startswith("floods "):
        flood(int(mode.split()[1]))
    if mode == "false events":
        send_false_events()


def with_fault(model: bytes, mode: str) -> bytes:
    """Return the model JSON with the mode's fault, and with an unchanged probe."""
    document = json.loads(model)
    first = document["policy_layers"][0]
    match mode:
        case "wrong probe":
            document["probe"]["values"][0] = 9.0
        case "nan weights":
            return model.replace(b'"weights":[', b'"weights":[NaN,', 1)
        case "wrong shapes":
            first["weights"] = first["weights"][:-1]
        case "another layer size":
            document["network_config"]["hidden_layers"] = [4, 4]
        case "wrong normaliser":
            first["weights"] = [weight * 3.0 for weight in first["weights"]]
            first["biases"] = [bias + 1.0 for bias in first["biases"]]
        case _:
            return model
    return json.dumps(document).encode()


def checkpoint(mode: str, cycle: int, epoch: int) -> bytes:
    if mode == "poisoned checkpoint":
        return pickle.dumps(Poison(os.environ[MARKER_VARIABLE]))
    return f"checkpoint {cycle} {epoch}".encode()


def make_model(*, contract: dict[str, Any] | None = None, **arguments: int) -> bytes:
    """Return a model JSON with this contract.

    The import is inside, because modes that make no model are faster without it.
    """
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    from schemas.contract import PolicyContract
    from tests.helpers import model_bytes

    return model_bytes(contract=None if contract is None else PolicyContract.from_json_value(contract), **arguments)


def work(job: dict[str, Any], mode: str) -> None:
    output = Path(str(job["output"]))
    send("heartbeat", doing="training", progress=0.1)
    send("notice", code="W_DEMO", message="something [bold]odd[/bold] \x1b[2J")
    misbehave(mode, output)
    if mode.startswith("cannot use "):
        refuse(job["rollouts"], mode.removeprefix("cannot use "))
    cycle, files = int(str(job["policy_version"])), {}
    epochs = [0] if job["kind"] == "initial" else list(range(1, job["settings"]["epochs"] + 1))
    for epoch in epochs:
        files[f"model_epoch_{epoch}.pt"] = checkpoint(mode, cycle, epoch)
        if epoch:
            epoch_done(epoch, len(epochs), 1.0 / epoch)
    if mode.startswith("lingers"):
        while not (output.parents[1] / GO_ON_NAME).exists():
            send("heartbeat", doing="lingering", progress=0.5)
            time.sleep(0.05)
    if mode in {"fails after its epochs", "lingers, then fails"}:
        raise RuntimeError("a late bug")
    send("selecting")
    best = (job["use_epoch"] if job["kind"] == "train" else 0) or epochs[-1]
    model = make_model(version=cycle, seed=cycle, contract=job["contract"], hidden=job["hidden_sizes"][0])
    files[f"model_epoch_{best}.json"] = with_fault(model, mode)
    files["model_analysis.json"] = b"{}"
    for name, content in files.items():
        (output / name).write_bytes(content)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    chosen = f"model_epoch_{best}.pt"
    if mode == "torn checkpoint":
        (output / chosen).write_bytes(files[chosen][:-3])
    if mode == "no checkpoint":
        (output / chosen).unlink()
    if mode == "no metrics":
        hashes = {}
    send(
        "result",
        epoch=best,
        score=0.5,
        model=f"model_epoch_{best}.json",
        checkpoint=chosen,
        files=hashes,
        contract=job["contract"],
        hidden_sizes=job["hidden_sizes"],
        losses={"value_loss": 0.25},
    )
    if mode == "writes on":
        write_on(output, files)


def write_on(output: Path, files: dict[str, bytes]) -> None:
    """Write other content to the folder again and again, after the daemon has moved it."""
    while output.exists():
        time.sleep(0.01)
    while True:
        output.mkdir(parents=True, exist_ok=True)
        for name in files:
            (output / name).write_bytes(b"written after the result")
        (output.parents[1] / GO_ON_NAME).touch()
        time.sleep(0.01)


def main() -> None:
    mode = sys.argv[1]
    if mode == "chatty":
        sys.stdout.write("x" * 3_000_000 + "\nnot json\n\xff\n")
        sys.stdout.flush()
    if mode == "no torch":
        raise ModuleNotFoundError("No module named 'torch'")
    if mode in {"stubborn", "deaf", "writes on"}:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if mode in {"warm", "lingers"}:
        send("ready", versions={"fake": "1"})
    job: dict[str, Any] = {"kind": "prefetch"}
    while job["kind"] == "prefetch":
        line = sys.stdin.buffer.readline()
        if not line:
            sys.exit(75)
        job = json.loads(line)
        print(f"job {job['kind']} {len(job['rollouts'])}", file=sys.stderr, flush=True)
    mode = "" if job["kind"] == "initial" else mode
    if mode not in {"deaf", "orphaned", "writes on"}:
        threading.Thread(target=lifeline, daemon=True).start()
    if mode == "never ready":
        time.sleep(3600)
    if not mode:
        make_model(version=0)  # a trainer must be ready only after its imports
    send("ready", versions={"fake": "1"})
    work(job, "silent" if mode == "orphaned" else mode)


if __name__ == "__main__":
    main()
