"""Run the suite folder by folder and a few whole programs on Windows Python, and write the results as a table."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from scripts.windows.prefix import windows_path
from scripts.windows.program import run_python
from scripts.windows.progress import SetupError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from scripts.windows.cache import Cache
    from scripts.windows.progress import Progress

BEGIN, END = "<!-- table -->", "<!-- end of the table -->"
SPLIT = ("daemon", "faults", "trainer")  #: each of their folders is a run of its own, so that a crash costs only one
LEFT_OUT = ("arch", "data", "fakes")  #: about the source text, which is the same on all systems; and no tests
TEST_TIMEOUT_S = 600  #: for each test; a test that takes longer ends its whole run
MEASURE_S = 2.0  #: how long the load of other programs is measured, before and after a run

SAMPLES = Path("tests") / "data" / "rollouts"
PROGRAMS = {  #: Hotlap itself; {0} is a folder
    "hotlap --once --project {0}\\once": "the two sample rollouts",
    "hotlap --demo --cycles 2 --no-dashboard --project {0}\\demo": "a simulated engine",
    "hotlap online --env CartPole-v1 --steps 5000 --logs {0}\\online": "",
    "hotlap dagger --milestone-config racing --milestone CHECKPOINT_1 --dagger-iterations 2 --no-record-video "
    "--output-dir {0}\\dagger": "one milestone",
}


@dataclass(slots=True)
class Result:
    """What one run of pytest counted."""

    name: str
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  #: by reason
    seconds: float = 0.0
    load_percent: float = 0.0  #: of the processors, by other programs
    problem: str = ""


def pieces(tests: Path) -> dict[str, list[str]]:
    """Return the runs: a name, and the paths of its tests."""
    found: dict[str, list[str]] = {}

    def add(folder: Path, *, below: bool) -> None:
        tests_here = sorted(folder.rglob("test_*.py") if below else folder.glob("test_*.py"))
        if tests_here:
            name = folder.relative_to(tests.parent).as_posix()
            found[name] = [name] if below else [path.relative_to(tests.parent).as_posix() for path in tests_here]

    for folder in sorted(path for path in tests.iterdir() if path.is_dir() and path.name not in LEFT_OUT):
        add(folder, below=folder.name not in SPLIT)
        if folder.name in SPLIT:
            for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
                add(inner, below=True)
    return found


def read_result(name: str, report: str) -> Result:
    """Return the counts in a JUnit report of pytest. Raises ET.ParseError."""
    result = Result(name)
    for case in ET.fromstring(report).iter("testcase"):
        test = f"{case.get('classname', '').replace('.', '/')}::{case.get('name', '')}"
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            result.failed.append(test)
        elif skipped is not None:
            result.skipped[skipped.get("message", "")] += 1
        else:
            result.passed += 1
    return result


def processor_times() -> tuple[float, float]:
    """Return the ticks that the processors were busy, and all ticks.

    Programs of low priority (`nice`) do not count: they only get what a run leaves over.
    """
    numbers = [int(word) for word in Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]]
    _, nice, _, idle, waiting, *_ = numbers
    return sum(numbers) - nice - idle - waiting, sum(numbers)


def load_percent() -> float:
    """Return how busy the processors are while nothing of ours runs."""
    busy, total = processor_times()
    time.sleep(MEASURE_S)
    busy_now, total_now = processor_times()
    return 100.0 * (busy_now - busy) / max(1.0, total_now - total)


def run_piece(cache: Cache, root: Path, name: str, places: Sequence[str]) -> Result:
    """Run one piece and return its result."""
    report = cache.runs / f"report-{os.getpid()}.xml"
    load, started_s = load_percent(), time.monotonic()
    arguments = ["-m", "pytest", "-q", "-m", "", "-o", "cache_dir=.pytest_cache/windows", "--tb=short",
                 f"--timeout={TEST_TIMEOUT_S}", f"--junitxml={windows_path(report)}", *places]  # fmt: skip
    code = run_python(cache, arguments, root)
    seconds = time.monotonic() - started_s
    try:
        result = read_result(name, report.read_text(encoding="utf-8"))
    except (OSError, ET.ParseError):
        result = Result(name, problem=f"ended with exit code {code} and without a result")
    report.unlink(missing_ok=True)
    result.seconds, result.load_percent = seconds, max(load, load_percent())
    return result


def run_program_of_ours(cache: Cache, root: Path, command: str, folder: Path) -> str:
    """Run a command and return its row of the table."""
    load, started_s = load_percent(), time.monotonic()
    words = command.format(windows_path(folder)).split()[1:]
    code = run_python(cache, ["-m", "daemon", *words], root)
    seconds = time.monotonic() - started_s
    shown = re.sub(r" --\S+ \{0\}\S*", "", command)
    what = f" ({PROGRAMS[command]})" if PROGRAMS[command] else ""
    return f"| `{shown}`{what} | {code} | {seconds:.0f} | {max(load, load_percent()):.0f} % |"


def run_programs(cache: Cache, root: Path, progress: Progress) -> Iterator[str]:
    """Run Hotlap's programs in a temporary folder; return the rows of the table one by one."""
    with tempfile.TemporaryDirectory(dir=cache.folder) as name:
        exports = Path(name) / "once" / "Saved" / "Training" / "Exports"
        exports.mkdir(parents=True)
        for sample in (root / SAMPLES).glob("rollout_*"):
            shutil.copy(sample, exports)
        for command in PROGRAMS:
            progress.say(command.format("FOLDER"))
            yield run_program_of_ours(cache, root, command, Path(name))


def as_markdown(results: Iterable[Result], programs: Sequence[str], title: str) -> str:
    """Return the page's tables: the programs, the folders of the suite, the skip reasons and the failures."""
    results = list(results)
    load = "`load`: used by other programs just before or after a run, except those of low priority"
    lines = [f"{title}. {load}.", ""]
    if programs:
        lines += ["| program | exit code | s | load |", "|---|---|---|---|", *programs, ""]
    lines += [
        "| folder | passed | failed | skipped | s | load |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        counts = f"{result.passed} | {len(result.failed)} | {result.skipped.total()} |"
        shown = f"{result.problem} |||" if result.problem else counts
        lines.append(f"| `{result.name}` | {shown} {result.seconds:.0f} | {result.load_percent:.0f} % |")
    passed, failed = sum(r.passed for r in results), [test for r in results for test in r.failed]
    reasons: Counter[str] = sum((r.skipped for r in results), Counter())
    lines.append(
        f"| all | {passed} | {len(failed)} | {reasons.total()} | {sum(r.seconds for r in results):.0f} | |",
    )
    lines += ["", "| skipped | reason |", "|---|---|"]
    by_cause = sorted(reasons.items(), key=lambda item: (item[0].partition(":")[0], -item[1], item[0]))
    lines += [f"| {count} | {escape(reason)} |" for reason, count in by_cause]
    lines += ["", "Failed: " + (", ".join(f"`{test}`" for test in failed) or "none") + "."]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Return a text for a cell: one line, without the folders of this machine."""
    return re.sub(r"[A-Z]:\\\S*\\", "", " ".join(text.split())).replace("|", "\\|")


def replace_table(page: Path, table: str) -> None:
    """Write the table between the page's two marks. Raises SetupError if the page lacks them."""
    text = page.read_text(encoding="utf-8") if page.is_file() else f"{BEGIN}\n{END}\n"
    before, found, rest = text.partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not found or not found_end:
        raise SetupError(f"{page} has no lines {BEGIN} and {END}: add them where the table belongs")
    page.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8", newline="\n")


def make_table(cache: Cache, root: Path, page: Path, only: Sequence[str], version: str, progress: Progress) -> int:
    """Run the programs and all pieces, or only the pieces in some folders; return 1 if a test of these failed.

    Some folders replace their rows of the table; the other rows stay.
    """
    chosen = {
        name: places
        for name, places in pieces(root / "tests").items()
        if not only or any(f"{name}/".startswith(f"{place.strip('/')}/") for place in only)
    }
    if not chosen:
        raise SetupError(f"{', '.join(only)}: no such folders of tests. There are {', '.join(pieces(root / 'tests'))}")
    title = f"{time.strftime('%Y-%m-%d')}, {version}, {os.cpu_count() or 1} processors"
    store = cache.folder / f"results-{hashlib.sha256(str(page).encode()).hexdigest()[:12]}.json"
    programs, results = load_results(store) if only else ([], {})
    for row in () if only else run_programs(cache, root, progress):
        programs.append(row)
        replace_table(page, as_markdown(results.values(), programs, title))
    for place, (name, places) in enumerate(chosen.items(), start=1):
        progress.say(f"{place} of {len(chosen)}: {name}")
        results[name] = run_piece(cache, root, name, places)
        replace_table(page, as_markdown(results.values(), programs, title))
        save_results(store, programs, results.values())
    return int(any(results[name].failed or results[name].problem for name in chosen))


def save_results(store: Path, programs: Sequence[str], results: Iterable[Result]) -> None:
    """Write the programs' rows and the results for `load_results`."""
    rows = [{each.name: getattr(result, each.name) for each in fields(result)} for result in results]
    store.write_text(json.dumps([list(programs), rows]), encoding="utf-8")


def load_results(store: Path) -> tuple[list[str], dict[str, Result]]:
    """Return the programs' rows and the results of an earlier run for the same page; nothing if there was none."""
    if not store.is_file():
        return [], {}
    programs, results = json.loads(store.read_text(encoding="utf-8"))
    kept = [Result(**{**result, "skipped": Counter(result["skipped"])}) for result in results]
    return programs, {result.name: result for result in kept}
