"""The folders, the environment and the processes in which the code blocks of the pages run."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from scripts.devtools.markdown_blocks import Block

SHELL = ["bash", "-e", "-o", "pipefail", "-c"]
PIP = ["-m", "pip", "--quiet", "--no-input", "--disable-pip-version-check"]
_HIDDEN = ("HOTLAP_", "PYTHON", "VIRTUAL_ENV")  #: variables of the caller that a reader of the page does not have


class Failure(Exception):
    """A block or a preparation that did not succeed. The message is the cause, with the end of the output."""


class Process(NamedTuple):
    """A running program with its output, in a process group of its own."""

    popen: subprocess.Popen[bytes]
    log: Path

    def wait(self, limit_s: float) -> None:
        """Wait for the end. Raises Failure if it takes too long or the exit code is not 0."""
        try:
            code = self.popen.wait(limit_s)
        except subprocess.TimeoutExpired:
            raise Failure(f"did not end within {limit_s:.0f} s\n{self.tail()}") from None
        if code:
            raise Failure(f"exit code {code}\n{self.tail()}")

    def end_group(self) -> None:
        """End what still runs in its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.wait()

    def tail(self) -> str:
        """Return the end of the output, indented."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-40:]
        return "\n".join(f"    {line}" for line in lines)


class Workplace:
    """The temporary folder: the clone, the wheel, the environment, and the folder of the page that runs."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.folder = folder
        self.original = folder / "clone"  #: never touched after it was made: pages get copies
        self.pristine = folder / "pristine"  #: likewise, the environment
        self.environment = folder / "env"
        self.clone = folder / "checkout"
        self.page = folder / "page"
        self._count = 0

    def prepare(self) -> None:
        """Clone the checkout, build the wheel, and install it."""
        say("cloning the checkout")
        self.call(["git", "clone", "--quiet", "--no-hardlinks", str(self.root), str(self.original)])
        for path in self._git("ls-files", "--modified", "--deleted", "--others", "--exclude-standard"):
            target = self.original / path
            if (self.root / path).is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.root / path, target)
            else:
                target.unlink(missing_ok=True)
        say("building the wheel, and installing it into a fresh environment")
        self.call([sys.executable, "-m", "venv", str(self.environment)])
        wheels = self.folder / "wheels"
        source = shutil.copytree(self.original, self.folder / "source")  # a build leaves files
        self.call([*self.pip("wheel"), "--no-deps", "--wheel-dir", str(wheels), str(source)])
        self.call([*self.pip("install"), *map(str, wheels.glob("hotlap-*.whl"))])
        self.environment.rename(self.pristine)
        link_tree(self.pristine, self.environment)

    def _git(self, *arguments: str) -> list[str]:
        """Return the paths that a git command prints, once each."""
        done = subprocess.run(["git", *arguments, "-z"], cwd=self.root, capture_output=True, text=True, check=True)
        return sorted({path for path in done.stdout.split("\0") if path})

    def pip(self, command: str) -> list[str]:
        """Return the start of a pip command in the environment."""
        return [str(self.environment / "bin" / "python"), *PIP, command]

    def call(self, command: list[str]) -> None:
        """Run a step of the preparation. Raises Failure."""
        process = self.start(command, self.folder)
        try:
            process.wait(600)
        except Failure as failure:
            raise Failure(f"{' '.join(command)}: {failure}") from None
        finally:
            process.end_group()

    def begin_page(self, blocks: Sequence[Block]) -> None:
        """Make an empty folder, and a clone if a block needs one."""
        self.page.mkdir()
        if uses_checkout(blocks):
            shutil.copytree(self.original, self.clone, symlinks=True)

    def end_page(self, blocks: Sequence[Block]) -> None:
        """Remove what the page made; its checkout blocks may have installed something into the environment."""
        remove_tree(self.page)
        if uses_checkout(blocks):
            remove_tree(self.clone)
            remove_tree(self.environment)
            link_tree(self.pristine, self.environment)

    def start(self, command: list[str], cwd: Path) -> Process:
        """Start a program with the environment's programs first on PATH."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
        variables["PATH"] = os.pathsep.join([str(self.environment / "bin"), variables.get("PATH", "")])
        # The tested versions, also where a page does not name them: what is newest today must not decide.
        variables |= {"PIP_CONSTRAINT": str(self.original / "constraints.txt"), "PIP_NO_COMPILE": "1"}
        self._count += 1
        log = self.folder / f"output_{self._count}.log"
        with log.open("wb") as output:
            popen = subprocess.Popen(
                command,
                cwd=cwd,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Process(popen, log)

    def start_block(self, block: Block) -> Process:
        """Start a block that is run."""
        cwd = self.clone if "checkout" in block.flags else self.page
        if block.language == "bash":
            return self.start([*SHELL, block.body], cwd)
        script = self.folder / f"block_{block.line}.py"
        script.write_text(block.body, encoding="utf-8")
        return self.start(["python", str(script)], cwd)


def uses_checkout(blocks: Sequence[Block]) -> bool:
    """Return whether a block that is run needs a clone."""
    return any("checkout" in block.flags and "no-run" not in block.flags for block in blocks)


def link_tree(source: Path, target: Path) -> None:
    """Copy a folder with hard links: pip and Python replace files, they never change one in place."""
    shutil.copytree(source, target, symlinks=True, copy_function=os.link)


def remove_tree(folder: Path) -> None:
    """Remove a folder, also if a process that was just ended adds a last file."""
    for _ in range(3):
        shutil.rmtree(folder, ignore_errors=True)


def say(text: str) -> None:
    """Print a line of progress."""
    print(f"[docs] {text}", flush=True)
