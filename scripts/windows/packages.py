"""The packages of the Windows Python: wheels at the versions in constraints.txt, changed one by one."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import shutil
import zipfile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from scripts.windows.interpreter import PYTHON_TAG, PYTHON_VERSION
from scripts.windows.pip_calls import download
from scripts.windows.progress import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from scripts.windows.cache import Cache
    from scripts.windows.progress import Progress

#: What Hotlap needs on Windows, with what these packages need there. pip cannot find that out from Linux: it decides
#: by the system that it runs on. inside/check.py compares the list with the packages' own requirements.
RUNTIME = ("annotated-types", "colorama", "filelock", "fsspec", "Jinja2", "markdown-it-py", "MarkupSafe", "mdurl",
           "mpmath", "msgspec", "networkx", "numpy", "orjson", "psutil", "pydantic", "pydantic_core", "Pygments",
           "rich", "scipy", "setuptools", "sympy", "threadpoolctl", "torch", "typing-inspection", "typing_extensions",
           "watchdog")  # fmt: skip
TESTS = ("attrs", "cloudpickle", "Farama-Notifications", "gymnasium", "hypothesis", "iniconfig", "jsonschema",
         "jsonschema-specifications", "msvc-runtime", "packaging", "pluggy", "pytest", "pytest-timeout", "referencing",
         "rpds-py", "sortedcontainers")  # fmt: skip
PACKAGES = RUNTIME + TESTS
OF_THE_INTERPRETER = ("pip",)  #: at the version that the interpreter comes with
LARGE = ("torch",)  #: fetched by itself, so that a stopped run does not fetch the others again

PLATFORM = ["--platform", "win_amd64", "--python-version", PYTHON_VERSION, "--implementation", "cp",
            "--abi", PYTHON_TAG, "--abi", "abi3", "--abi", "none", "--only-binary=:all:"]  # fmt: skip


def normal_name(name: str) -> str:
    """Return a package's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_pins(text: str) -> dict[str, str]:
    """Return the exact versions in constraints.txt by normal name."""
    pins = {}
    for line in text.splitlines():
        name, found, version = line.partition("#")[0].partition(";")[0].partition("==")
        if found:
            pins[normal_name(name.strip())] = version.strip()
    return pins


def wanted_pins(constraints: Path, names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return what has to be installed. Raises SetupError if constraints.txt lacks a package."""
    try:
        pins = read_pins(constraints.read_text(encoding="utf-8"))
    except OSError as error:
        raise SetupError(
            f"{constraints} cannot be read ({error.strerror}): run this from a complete checkout"
        ) from error
    missing = sorted(name for name in names if normal_name(name) not in pins)
    if missing:
        raise SetupError(
            f"constraints.txt has no version for {', '.join(missing)}: add a line NAME==VERSION, then run this again"
        )
    return {normal_name(name): pins[normal_name(name)] for name in names}


def installed(site_packages: Path) -> dict[str, tuple[str, Path]]:
    """Return version and .dist-info folder of each package by normal name. That folder is written last."""
    found = {}
    for folder in sorted(site_packages.glob("*.dist-info")):
        name, dash, version = folder.name.removesuffix(".dist-info").rpartition("-")
        if dash:
            found[normal_name(name)] = (version, folder)
    return found


def same_version(one: str, other: str) -> bool:
    """Return whether two versions are written for the same release: 2.0 and 2.0.0 are."""
    return re.sub(r"(\.0)+$", "", one) == re.sub(r"(\.0)+$", "", other)


def changes(wanted: dict[str, str], site_packages: Path) -> tuple[list[Path], dict[str, str]]:
    """Return the .dist-info folders of what has to go, and what has to be installed."""
    has = {name: found for name, found in installed(site_packages).items() if name not in OF_THE_INTERPRETER}
    right = {name for name, (version, _) in has.items() if name in wanted and same_version(version, wanted[name])}
    return (
        [folder for name, (_, folder) in has.items() if name not in right],
        {name: version for name, version in wanted.items() if name not in right},
    )


def ensure_packages(cache: Cache, wanted: dict[str, str], progress: Progress) -> None:
    """Install, replace and remove packages until exactly the wanted ones are there."""
    gone, new = changes(wanted, cache.site_packages)
    if not gone and not new:
        return
    what = f"{len(new)} wheels" + (f", {len(gone)} packages to remove" if gone else "")
    with progress.step("packages", f"packages for Windows Python: {what}"):
        for folder in gone:
            remove(folder)
        small = {name: version for name, version in new.items() if name not in LARGE}
        for part in (small, {name: new[name] for name in LARGE if name in new}):
            if part:
                install(cache, part, progress)


def install(cache: Cache, pins: dict[str, str], progress: Progress) -> None:
    """Fetch wheels and unpack them."""
    for old in cache.downloads.glob("*.whl"):
        old.unlink()
    download(cache, [*PLATFORM, *(f"{name}=={version}" for name, version in sorted(pins.items()))], progress)
    for wheel in sorted(cache.downloads.glob("*.whl")):
        progress.detail = "unpacking " + " ".join(wheel.name.split("-")[:2])
        unpack_wheel(wheel, cache.site_packages, progress)
        wheel.unlink()
    _, still = changes(pins, cache.site_packages)
    if still:
        raise SetupError(f"pip fetched another version of {', '.join(sorted(still))}: see {cache.log}")


def place_of(name: str) -> PurePosixPath | None:
    """Return where a wheel's file belongs, from site-packages; None for scripts and most data: nothing here uses them.

    DLLs that a wheel has as data belong next to python.exe: msvc-runtime consists of them.
    """
    path = PurePosixPath(name)
    if path.parts[0].endswith(".data"):
        if path.parts[1] == "data" and len(path.parts) == 3 and path.suffix == ".dll":
            return PurePosixPath("..", "..", path.name)
        if path.parts[1] not in {"purelib", "platlib"}:
            return None
        path = PurePosixPath(*path.parts[2:])
    return None if path.is_absolute() or ".." in path.parts else path


def record_hashes(text: str) -> dict[str, str]:
    """Return the SHA-256 of each file in a RECORD, as it is written there."""
    rows = csv.reader(io.StringIO(text))
    return {row[0]: row[1].removeprefix("sha256=") for row in rows if len(row) > 1 and row[1].startswith("sha256=")}


def unpack_wheel(wheel: Path, site_packages: Path, progress: Progress) -> None:
    """Unpack a wheel, compare each file with the wheel's RECORD, and write the .dist-info folder last."""
    with zipfile.ZipFile(wheel) as files:
        entries = [entry for entry in files.infolist() if not entry.is_dir()]
        info = next(
            (e.filename.split("/")[0] for e in entries if re.fullmatch(r"[^/]+\.dist-info/RECORD", e.filename)), ""
        )
        if not info:
            raise SetupError(f"{wheel.name} is not a wheel (it has no RECORD): run this again to fetch it again")
        hashes = record_hashes(files.read(f"{info}/RECORD").decode("utf-8"))
        new_info = site_packages / f"{info}.new"
        shutil.rmtree(new_info, ignore_errors=True)
        new_info.mkdir(parents=True)
        for entry in entries:
            progress.tick()
            place = place_of(entry.filename)
            if place is None:
                continue
            inside = place.parts[0] == info
            target = new_info.joinpath(*place.parts[1:]) if inside else site_packages / place
            target.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            with files.open(entry) as source, target.open("wb") as copy:
                while chunk := source.read(1 << 20):
                    digest.update(chunk)
                    copy.write(chunk)
            expected = hashes.get(entry.filename)
            if expected and base64.urlsafe_b64encode(digest.digest()).decode().rstrip("=") != expected:
                raise SetupError(f"{entry.filename} in {wheel.name} is damaged: run this again to fetch it again")
        old = site_packages / info
        shutil.rmtree(old, ignore_errors=True)
        new_info.rename(old)


def remove(info: Path) -> None:
    """Remove an installed package, its .dist-info folder last, so that an interrupted removal is repeated."""
    site_packages = info.parent
    record = info / "RECORD"
    rows = csv.reader(io.StringIO(record.read_text(encoding="utf-8") if record.exists() else ""))
    folders: set[Path] = set()
    for row in rows:
        place = place_of(row[0]) if row and row[0] else None
        if place is None or place.parts[0] == info.name:
            continue
        path = site_packages / place
        path.unlink(missing_ok=True)
        folders.update(parent for parent in path.parents if parent.is_relative_to(site_packages))
    for folder in sorted(folders - {site_packages}, key=lambda path: len(path.parts), reverse=True):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    shutil.rmtree(info)
