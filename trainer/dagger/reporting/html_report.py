"""report.html: one page with the numbers and curves of all milestones, and links to their videos."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

from schemas.errors import HotlapError
from schemas.storage.files import read_with_retries, write_atomic
from trainer.dagger.results import MilestoneResult

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222;background:#fff}
table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #ccc;padding:.25em .6em;text-align:right}
td:first-child,th:first-child,td.words{text-align:left}.completed{color:#17692c}.failed{color:#a01818}.skipped{color:#777}
svg{background:#fafafa;border:1px solid #ddd;margin-right:1em}video{width:320px}
figure{display:inline-block;margin:0 1em 1em 0}
"""
_WIDTH, _HEIGHT, _MARGIN, _FONT_SIZE = 340, 180, 34, 11
_CHARACTER_WIDTH = 0.65 * _FONT_SIZE
"""At least the width of a digit, a point or a sign in the fonts of browsers."""
_MAX_DETAILS_BYTES = 64 << 20


def write_report(folder: Path, results: Sequence[MilestoneResult]) -> None:
    """Write the page from the results and milestone_details."""
    details = {result.milestone_id: _details(folder, result.milestone_id) for result in results}
    write_atomic(folder / "report.html", render_page(results, details).encode("utf-8"))


def _details(folder: Path, milestone_id: str) -> dict[str, Any]:
    try:
        path = folder / "milestone_details" / f"{milestone_id}.json"
        document = json.loads(read_with_retries(path, limit=_MAX_DETAILS_BYTES))
    except (OSError, HotlapError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def render_page(results: Sequence[MilestoneResult], details: dict[str, dict[str, Any]]) -> str:
    """Return the page as HTML. All text from files is escaped."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>DAgger report</title>",
        f"<style>{_STYLE}</style><h1>DAgger report</h1>",
        "<table><tr><th>milestone<th>status<th>expert<th>steps<th>step limit<th>policy<th>reason",
    ]
    for r in results:
        steps = f"{_number(r.expert_mean_steps)} &plusmn; {_number(r.expert_std_steps)}"
        parts.append(
            f'<tr><td><a href="#{quote(r.milestone_id)}">{escape(r.milestone_id)}</a><td class={r.status}>{r.status}'
            f"<td>{_percent(r.expert_success_rate)}<td>{steps}<td>{r.max_episode_steps or ''}"
            f"<td>{_percent(r.dagger_final_success_rate)}<td class=words>{escape(r.reason)}"
        )
    parts.append("</table>")
    for r in results:
        parts += _section(r, details.get(r.milestone_id, {}))
    return "\n".join(parts)


def _section(result: MilestoneResult, details: dict[str, Any]) -> Iterable[str]:
    name = result.milestone_id
    description = str((details.get("milestone") or {}).get("description") or "")
    yield f'<h2 id="{quote(name)}">{escape(name)}</h2><p>{escape(description)}</p>'
    if note := (details.get("expert") or {}).get("note"):
        yield f"<p class=failed>{escape(str(note))}</p>"
    rounds = details.get("rounds") or []
    if rounds:
        labels = [float(r["labels"]) for r in rounds]
        yield _curve("success rate", labels, [float(r["success_rate"]) for r in rounds], top=1.0)
        yield _curve("loss", labels, [float(r["loss"]) for r in rounds])
        steps = [
            (n, float(r["mean_steps"])) for n, r in zip(labels, rounds, strict=True) if r["mean_steps"] is not None
        ]
        if steps:
            yield _curve("mean steps of successes", [n for n, _ in steps], [s for _, s in steps])
    videos = [str(video) for video in details.get("videos") or []]
    shown = [v for v in videos if v.startswith("expert")][:1] + [v for v in videos if v.startswith("dagger")][-1:]
    for video in shown:
        place = quote(video)
        caption = f"<figcaption>{escape(video)}</figcaption>"
        yield f'<figure><video controls preload=none src="{place}"></video>{caption}</figure>'
    if videos:
        links = " ".join(f'<a href="{quote(v)}">{escape(v.rpartition("/")[2])}</a>' for v in videos)
        yield f"<details><summary>{len(videos)} videos</summary><p>{links}</details>"


def _curve(title: str, xs: Sequence[float], ys: Sequence[float], *, top: float | None = None) -> str:
    low, high = (0.0, top) if top is not None else (min(ys), max(ys))
    span, width = (high - low) or 1.0, max(xs) or 1.0
    marks = [f"{number:.3g}" for number in (high, low)]
    left = max(_MARGIN, math.ceil(max(map(len, marks)) * _CHARACTER_WIDTH) + 8)  # otherwise the labels are cut off
    inner_width, inner_height = _WIDTH - 2 * _MARGIN, _HEIGHT - 2 * _MARGIN
    points = [
        (left + x / width * inner_width, _HEIGHT - _MARGIN - (y - low) / span * inner_height)
        for x, y in zip(xs, ys, strict=True)
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="#2a62b8"/>' for x, y in points)
    base, right = _HEIGHT - _MARGIN, left + inner_width
    return (
        f'<svg width="{right + _MARGIN}" height="{_HEIGHT}" font-size="{_FONT_SIZE}" fill="#444">'
        f'<path d="M{left} {_MARGIN}V{base}H{right}" fill="none" stroke="#999"/>'
        f'<text x="{left}" y="{_MARGIN - 12}">{escape(title)}</text>'
        f'<text x="{left - 4}" y="{_MARGIN + 4}" text-anchor="end">{marks[0]}</text>'
        f'<text x="{left - 4}" y="{base}" text-anchor="end">{marks[1]}</text>'
        f'<text x="{right}" y="{base + 16}" text-anchor="end">{max(xs):.0f} labels</text>'
        f'<polyline points="{line}" fill="none" stroke="#2a62b8" stroke-width="1.5"/>{dots}</svg>'
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"
