"""The commands in messages, in the form that works for this installation."""

from __future__ import annotations

import re
import shlex
import sys
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

from schemas.program.children import CODE_ROOT, PYTHON

NAME = "hotlap"
_IN_A_TEXT = re.compile(r"`hotlap(?=[ `])")


def quoted(argument: str) -> str:
    """Return an argument as it is typed in a shell."""
    if sys.platform == "win32":
        return f'"{argument}"' if " " in argument else argument
    return shlex.quote(argument)


@cache
def hotlap_command() -> str:
    """Return the command that starts this installation: `hotlap` if the shell finds it, else `PYTHON -m daemon`."""
    import shutil  # imported here, because most commands do not print a hint

    found = shutil.which(NAME)
    if found is not None and _belongs_to_this_python(Path(found)):
        return NAME
    return f"{quoted(PYTHON)} -m daemon"


def _belongs_to_this_python(script: Path) -> bool:
    """Return whether a console command belongs to this Python: it started this process, or it is in the same folder."""
    if is_hotlap_script(sys.argv[0]):
        started = Path(sys.argv[0])
        for path in (started, started.with_suffix(".exe")):
            if path.exists() and path.samefile(script):
                return True
    beside = Path(sys.executable).parent.resolve()
    return script.resolve().parent in {beside, beside / "Scripts"}  # Windows without a virtual environment: Scripts


def is_hotlap_script(program: str) -> bool:
    """Return whether a program's path is that of the console command."""
    return Path(program).stem.lower() == NAME


def usable(text: str) -> str:
    """Return a message in which every `hotlap ...` in backquotes is a command that works here."""
    if "`hotlap" not in text:
        return text
    command = hotlap_command()
    return text if command == NAME else _IN_A_TEXT.sub(lambda _: f"`{command}", text)


def pip_install(*arguments: str) -> str:
    """Return the command that installs packages for this Python, also if its environment does not have pip."""
    python, packages = quoted(PYTHON), " ".join(map(quoted, arguments))
    # Environments of `uv` do not have pip. Not importlib.util.find_spec: setuptools warns if it is asked for pip.
    if PathFinder.find_spec("pip") is None:
        return f"uv pip install --python {python} {packages}"
    return f"{python} -m pip install {packages}"


def install_command(extra: str) -> str:
    """Return the command that installs the packages of one of Hotlap's extras, by their names.

    Not `hotlap[extra]`, because Hotlap is not on a package index.
    """
    return pip_install(*packages_of(extra))


def packages_of(extra: str) -> tuple[str, ...]:
    """Return the names of the packages of an extra, from the checkout or from the installed package."""
    marker = re.compile(rf"""extra\s*==\s*["']{re.escape(extra)}["']""")
    project = CODE_ROOT / "pyproject.toml"
    if project.is_file():
        import tomllib

        requirements = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["optional-dependencies"][extra]
    else:
        from importlib.metadata import requires

        requirements = [one for one in requires(NAME) or () if marker.search(one)]
    names = [re.match(r"[\w.-]+", one) for one in requirements]
    return tuple(name.group() for name in names if name is not None)
