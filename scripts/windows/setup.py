"""Makes the environment step by step. A step is skipped if its stamp has the hash of the current inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scripts.windows.cache import digest_of, file_digest
from scripts.windows.dlls import dlls_digest, ensure_dlls
from scripts.windows.host import ensure_programs, missing_programs
from scripts.windows.interpreter import DIGEST as INTERPRETER_DIGEST
from scripts.windows.interpreter import ensure_interpreter
from scripts.windows.packages import changes, ensure_packages, wanted_pins
from scripts.windows.prefix import (
    ensure_prefix,
    environment,
    prefix_digest,
    prefix_of_a_run,
    windows_path,
    wine_version,
)
from scripts.windows.progress import SetupError, run_program

if TYPE_CHECKING:
    from pathlib import Path

    from scripts.windows.cache import Cache
    from scripts.windows.progress import Progress


def check_script(root: Path) -> Path:
    """Return the script that checks the finished environment."""
    return root / "scripts" / "windows" / "inside" / "check.py"


def check_digest(cache: Cache, pins: dict[str, str], root: Path) -> str:
    """Return a hash of all other steps' results."""
    return digest_of(
        INTERPRETER_DIGEST, sorted(pins.items()), dlls_digest(cache), cache.stamp("prefix").get("digest"),
        file_digest(check_script(root)),
    )  # fmt: skip


def is_complete(cache: Cache, root: Path) -> bool:
    """Return whether nothing has to be done."""
    if missing_programs() or not cache.executable.is_file():
        return False
    pins = wanted_pins(root / "constraints.txt")
    return (
        cache.is_finished("interpreter", INTERPRETER_DIGEST)
        and changes(pins, cache.site_packages) == ([], {})
        and cache.is_finished("prefix", prefix_digest(wine_version()))
        and cache.is_finished("dlls", dlls_digest(cache))
        and cache.is_finished("check", check_digest(cache, pins, root))
    )


def make(cache: Cache, root: Path, progress: Progress) -> None:
    """Do the missing steps. Raises SetupError; the next run continues after the last finished step."""
    pins = wanted_pins(root / "constraints.txt")
    cache.log.unlink(missing_ok=True)
    ensure_programs(cache, progress)
    if not cache.executable.is_file():
        cache.check_space()
    ensure_prefix(cache, wine_version(), progress)
    ensure_interpreter(cache, progress)
    ensure_packages(cache, pins, progress)
    ensure_dlls(cache, progress)
    ensure_checked(cache, pins, root, progress)


def ensure_checked(cache: Cache, pins: dict[str, str], root: Path, progress: Progress) -> None:
    """Load the packages once with the Windows Python, which also writes their bytecode."""
    digest = check_digest(cache, pins, root)
    if cache.is_finished("check", digest):
        return
    with progress.step("check", "loading the packages with Windows Python"), prefix_of_a_run(cache) as prefix:
        argv = ["wine", str(cache.executable), windows_path(check_script(root))]
        env = dict(environment(cache, prefix), WINEDEBUG="-all,err+module")  # names a DLL that is missing
        code, output = run_program(argv, progress, env=env, cwd=root, describe=describe_line)
        cache.append_log("check", output)
        if code:
            problems = [line.removeprefix("problem: ") for line in output.splitlines() if line.startswith("problem: ")]
            raise SetupError(
                f"Windows Python does not work (exit code {code}): {'; '.join(problems[:3]) or 'no message'}. "
                f"See {cache.log}; `python scripts/dev.py windows --clean` starts from scratch"
            )
    cache.write_stamp("check", digest, progress.durations_s["check"])


def describe_line(line: str) -> str:
    """Return the progress that a line of check.py reports, or ""."""
    return line.strip() if line.startswith("loaded ") else ""
