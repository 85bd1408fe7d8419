"""Run the code blocks of all pages as printed: `python scripts/dev.py docs`.

Builds a wheel of the checkout (with what is not committed yet), installs it into a fresh environment without extras,
and runs each page's blocks in order:

- `bash` blocks run in one folder for each page, which is empty at first. `hotlap` and `python` are the environment's.
- `bash checkout` blocks run in the root of a fresh clone. A page that has one gets an environment of its own.
- `bash background` blocks run until the end of the page. Then they get Ctrl-C, and must end with exit code 0.
- `bash no-run reason="..."` blocks are not run; the reason is listed.
- `python` blocks are complete scripts. `json` and `toml` blocks are parsed. Other blocks are only shown.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.devtools.docs_workplace import Failure, Process, Workplace, remove_tree, say
from scripts.devtools.markdown_blocks import PARSED, Block, BlockError, blocks_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT = Path(__file__).resolve().parents[2]
BLOCK_LIMIT_S, CTRL_C_LIMIT_S = 180.0, 30.0


def pages(root: Path = ROOT) -> list[Path]:
    """Return the pages whose blocks are run."""
    found = [root.glob("*.md"), (root / "docs").rglob("*.md"), (root / "examples").rglob("*.md")]
    return sorted({*(path for paths in found for path in paths), *(root / "Saved").glob("*.md")})


def check_parsed(block: Block) -> None:
    """Parse a json or toml block. Raises Failure."""
    try:
        (json if block.language == "json" else tomllib).loads(block.body)
    except ValueError as error:
        raise Failure(f"is not {block.language}: {error}") from None


def run_page(workplace: Workplace, name: str, blocks: Sequence[Block]) -> Iterator[str]:
    """Run a page's blocks. Yields a line for each block that failed; a block that follows a failed one still runs."""
    workplace.begin_page(blocks)
    background: list[tuple[Block, Process]] = []
    try:
        for block in blocks:
            yield from run_block(workplace, name, block, background)
        for block, process in background:
            if process.popen.poll() is None:
                os.killpg(process.popen.pid, signal.SIGINT)
            try:
                process.wait(CTRL_C_LIMIT_S)
                say(f"{name}:{block.line}: ok, ended after Ctrl-C")
            except Failure as failure:
                yield report(f"{name}:{block.line}: in the background: {failure}")
    finally:
        for _, process in background:
            process.end_group()
        workplace.end_page(blocks)


def run_block(workplace: Workplace, name: str, block: Block, background: list[tuple[Block, Process]]) -> Iterator[str]:
    """Run or check one block. Yields a line if it failed."""
    began_s = time.monotonic()
    try:
        if "no-run" in block.flags:
            return
        if block.language in PARSED:
            check_parsed(block)
        elif block.language in {"bash", "python"}:
            process = workplace.start_block(block)
            if "background" in block.flags:
                background.append((block, process))
                say(f"{name}:{block.line}: started in the background")
                return
            try:
                process.wait(BLOCK_LIMIT_S)
            finally:
                process.end_group()
            command = block.body.strip().splitlines()[-1]
            say(f"{name}:{block.line}: ok after {time.monotonic() - began_s:.1f} s: {command[:70]}")
    except Failure as failure:
        yield report(f"{name}:{block.line}: {block.language}: {failure}")


def report(text: str) -> str:
    """Print a failure with its output, and return its first line for the summary."""
    say(f"FAILED {text}")
    return text.partition("\n")[0]


def read_pages(only: Sequence[str]) -> tuple[dict[str, list[Block]], list[str]]:
    """Return the blocks of each page that has some, and the pages that break the conventions."""
    found: dict[str, list[Block]] = {}
    wrong = []
    for path in pages():
        name = path.relative_to(ROOT).as_posix()
        if only and name not in only and path.stem not in only:
            continue
        try:
            found[name] = blocks_of(path.read_text(encoding="utf-8"))
        except BlockError as error:
            wrong.append(report(f"{name}, {error}"))
    return {name: blocks for name, blocks in found.items() if blocks}, wrong


def run_pages(found: dict[str, list[Block]]) -> list[str]:
    """Run the pages in a temporary folder, which is removed at the end. Return the failures."""
    folder = Path(tempfile.mkdtemp(prefix="hotlap-docs-"))
    try:
        workplace = Workplace(ROOT, folder)
        workplace.prepare()
        return [line for name, blocks in found.items() for line in run_page(workplace, name, blocks)]
    except Failure as failure:
        return [report(f"preparation: {failure}")]
    finally:
        remove_tree(folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Run or list the blocks, and return the exit code."""
    parser = argparse.ArgumentParser(prog="dev.py docs", description="Run the code blocks of all pages as printed.")
    parser.add_argument("--only", action="append", default=[], metavar="PAGE", help="a path, or a file's stem: online")
    parser.add_argument("--list", action="store_true", help="print what would be done with each block")
    args = parser.parse_args(argv)
    found, failures = read_pages(args.only)
    if args.only and not found and not failures:
        parser.error(f"no page with a block is called {', '.join(args.only)}")
    if args.list:
        for name, blocks in found.items():
            for block in blocks:
                print(f"{name}:{block.line}: {block.language}: {block.action}")
        return 1 if failures else 0
    if os.name == "nt":
        parser.error("the pages' commands are for bash: run this on Linux or macOS")
    began_s = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is removed
    failures += run_pages(found)
    for name, blocks in found.items():
        for block in blocks:
            if "no-run" in block.flags:
                say(f"{name}:{block.line}: not run: {block.reason}")
    for line in failures:
        say(f"failed: {line}")
    count = sum(len(blocks) for blocks in found.values())
    say(f"{count} blocks on {len(found)} pages, {len(failures)} failed, {time.monotonic() - began_s:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
