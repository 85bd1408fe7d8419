"""Build the DLLs that Wine 8 lacks, from the sources in dll/ and Wine's own ucrtbase.dll."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.windows.cache import digest_of, file_digest
from scripts.windows.host import COMPILER, OBJDUMP
from scripts.windows.progress import SetupError, run_program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scripts.windows.cache import Cache
    from scripts.windows.progress import Progress

SOURCES = Path(__file__).with_name("dll")
SITE_FILE = Path(__file__).with_name("inside") / "sitecustomize.py"
SIGNATURE = b"Wine builtin DLL"  #: Wine loads its own file instead of a DLL that contains this
SIGNATURE_SIZE = 32
COPY_NAME = "wucrt"  #: the copy of Wine's ucrtbase.dll that ours passes calls on to
FLAGS = ["-O2", "-s", "-shared", "-static-libgcc", "-Wall", "-Werror", "-Wl,--no-insert-timestamp"]


def parse_exports(listing: str) -> list[str]:
    """Return the names in the export table that `objdump -p` prints."""
    names: list[str] = []
    _, found, table = listing.partition("[Ordinal/Name Pointer]")
    for line in table.splitlines()[1:] if found else []:
        entry = re.match(r"\s*\[\s*\d+\]\s+(?:\+base\[\s*\d+\]\s+(?:[0-9a-f]+\s+)?)?(\S+)", line)
        if entry is None:
            break
        names.append(entry[1])
    return names


def own_names(preprocessed: str) -> list[str]:
    """Return the functions that a preprocessed source defines as own_NAME."""
    return sorted(set(re.findall(r"\bown_(\w+)\(", preprocessed)))


def definition(exports: Sequence[str], own: Sequence[str]) -> str:
    """Return the .def file of our ucrtbase.dll: our functions, and every other one from Wine's copy."""
    ours = {name: f"own_{name}" for name in own}
    ours.update({f"{name}l": f"own_{name}" for name in own if not name.endswith("f")})
    lines = ["LIBRARY ucrtbase.dll", "EXPORTS"]
    for name in exports:
        if name in ours:
            lines.append(f"  {name} = {ours[name]}")
        else:
            quote = '"' if re.search(r"[?@]", name) else ""
            lines.append(f"  {quote}{name}{quote} = {COPY_NAME}.{quote}{name}{quote}")
    return "\n".join(lines) + "\n"


def unsigned(data: bytes) -> bytes:
    """Return Wine's DLL without the signature that makes Wine load its own file instead."""
    at = data.find(SIGNATURE)
    if at < 0:
        raise SetupError(f"Wine's ucrtbase.dll does not contain '{SIGNATURE.decode()}': this Wine is too new")
    return data[:at] + bytes(SIGNATURE_SIZE) + data[at + SIGNATURE_SIZE :]


def wine_runtime(cache: Cache) -> Path:
    """Return Wine's own C runtime, as it is in the prefix."""
    return cache.prefix / "drive_c" / "windows" / "system32" / "ucrtbase.dll"


def dlls_digest(cache: Cache) -> str:
    """Return a hash of all inputs: sources, flags, Wine's runtime, and the interpreter that uses the DLLs."""
    sources = [file_digest(path) for path in sorted(SOURCES.glob("*.c"))]
    interpreter = cache.stamp("interpreter").get("digest")
    return digest_of(*sources, file_digest(SITE_FILE), FLAGS, file_digest(wine_runtime(cache)), interpreter)


def ensure_dlls(cache: Cache, progress: Progress) -> None:
    """Build the DLLs next to python.exe and copy our sitecustomize.py to the packages, if this is not done yet."""
    digest = dlls_digest(cache)
    if cache.is_finished("dlls", digest):
        return
    with progress.step("dlls", "building the DLLs that Wine lacks"):
        cache.write_stamp("dlls", None)
        with tempfile.TemporaryDirectory(dir=cache.folder) as folder:
            build(cache, Path(folder), progress)
            for path in sorted(Path(folder).glob("*.dll")):
                path.replace(cache.python / path.name)
        shutil.copyfile(SITE_FILE, cache.site_packages / SITE_FILE.name)
    cache.write_stamp("dlls", digest, progress.durations_s["dlls"])


def build(cache: Cache, folder: Path, progress: Progress) -> None:
    """Build all DLLs into a folder."""

    def run(argv: list[str]) -> str:
        code, output = run_program(argv, progress, cwd=folder)
        cache.append_log(" ".join(argv), output if code else "")
        if code:
            raise SetupError(f"`{argv[0]}` failed with exit code {code}: its messages are in {cache.log}")
        return output

    bcrypt, complex_ = str(SOURCES / "bcryptprimitives.c"), str(SOURCES / "ucrtbase_complex.c")
    run([COMPILER, *FLAGS, "-o", "bcryptprimitives.dll", bcrypt, "-ladvapi32"])
    runtime = wine_runtime(cache)
    exports = parse_exports(run([OBJDUMP, "-p", str(runtime)]))
    own = own_names(run([COMPILER, "-E", "-P", complex_]))
    missing = sorted(set(own) - set(exports))
    if missing:
        raise SetupError(f"{runtime} does not export {', '.join(missing)}: this version of Wine is too different")
    (folder / "ucrtbase.def").write_text(definition(exports, own), encoding="utf-8")
    run([COMPILER, *FLAGS, "-o", "ucrtbase.dll", complex_, "ucrtbase.def"])
    (folder / f"{COPY_NAME}.dll").write_bytes(unsigned(runtime.read_bytes()))
