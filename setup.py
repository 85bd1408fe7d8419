"""What pyproject.toml cannot say: a wheel also contains the docs, the configs and the example experts."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FILES = {
    "docs": ("daemon/docs", "*.md"),
    "configs": ("trainer/configs", "*.*"),
    "examples/dagger_racing": ("trainer/examples/dagger_racing", "*.py"),
    "examples/dagger_airstriker": ("trainer/examples/dagger_airstriker", "*.py"),
}
"""Folder in the checkout: where its files go in the wheel, and which. A checkout's own are used where they are."""


class BuildWithFiles(build_py):
    """Copies the files into the packages that read them; an editable installation reads those of the checkout."""

    def run(self) -> None:
        """Build the packages, then copy."""
        super().run()
        if not self.editable_mode:
            for source, target in self._copies():
                self.mkpath(str(target.parent))
                self.copy_file(str(source), str(target))

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Return every file that is built."""
        return [*super().get_outputs(include_bytecode), *(str(target) for _, target in self._copies())]

    def _copies(self) -> list[tuple[Path, Path]]:
        return [
            (source, Path(self.build_lib, place, source.relative_to(folder)))
            for folder, (place, pattern) in FILES.items()
            for source in sorted(Path(folder).rglob(pattern))
            if "__pycache__" not in source.parts
        ]


setup(cmdclass={"build_py": BuildWithFiles})
