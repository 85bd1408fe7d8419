"""What the ledger knows about the content of rollouts: repeated data, two `done` in a row, a clock that is off."""

from __future__ import annotations

from collections.abc import Iterator

from daemon.ledger.ledger import Ledger
from daemon.rollouts.reports.data_messages import stored_double_done
from daemon.rollouts.reports.file_clock import offset_in_words, stored_clock_offset_s
from schemas.rollout.repeats import ROLLOUTS_COMPARED


def check_data(ledger: Ledger) -> Iterator[tuple[str, str]]:
    """Return the topic and the text of each finding. A running daemon shows the same as warnings."""
    if same := ledger.count_same_files():
        text = f"{same} files in Exports have the content of another file there, and count once -> does the game play "
        yield "repeated data", f"{text}the same each time? Start it with another random seed [W_REPEATED]"
    rollouts = ledger.newest_rollouts(ROLLOUTS_COMPARED)
    repeating = [row for row in rollouts if row.repeated]
    if repeating:
        text = f"{len(repeating)} of the last {len(rollouts)} rollouts repeat experiences of earlier ones, the last is "
        remedy = "only new experiences count -> empty the exporter's buffer after each export"
        yield "repeated data", f"{text}{repeating[-1].name}: {remedy} [W_CUMULATIVE]"
    if double_done := stored_double_done(ledger):
        yield "episodes", f"{double_done} [W_DOUBLE_DONE]"
    if offset_s := stored_clock_offset_s(ledger):
        text = f"the times of rollouts are {offset_in_words(offset_s)} this machine's clock"
        yield "clock", f"{text}; models are found by log_probs, so nothing is lost -> set both clocks right [W_CLOCK]"
