"""Warnings about what rollouts contain: the same as before, old rows again, two `done` in a row."""

from __future__ import annotations

from daemon.ledger.ledger import Ledger
from daemon.rollouts.reading.examination import Findings
from daemon.runtime.context import Context
from schemas.text import printable

CLEAN_ROLLOUTS = 10
"""A warning ends after this many rollouts in a row without its cause."""
_DOUBLE_DONE = "double_done"


class _Fault:
    """A fault that many rollouts can have. It is logged for the 1st, 2nd, 4th, 8th, ... of them."""

    def __init__(self, context: Context, code: str) -> None:
        self._context, self._code = context, code
        self.count = self._clean = 0

    def add(self, text: str) -> bool:
        """Count one rollout with the fault; return whether it was logged. `{count}` in the text is the count."""
        self.count, self._clean = self.count + 1, 0
        is_logged = self.count & (self.count - 1) == 0
        if is_logged:
            self._context.warn(self._code, text.replace("{count}", f"{self.count}"))
        return is_logged

    def add_clean(self) -> bool:
        """Count one rollout without the fault; return whether the warning ends with it."""
        self._clean += 1
        if not self.count or self._clean < CLEAN_ROLLOUTS:
            return False
        self.count = 0
        self._context.clear_warning(self._code)
        return True


class DataMessages:
    """Keeps the warnings about the content of rollouts."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._same = _Fault(context, "W_REPEATED")
        self._cumulative = _Fault(context, "W_CUMULATIVE")
        self._double_done = _Fault(context, "W_DOUBLE_DONE")

    def report(self, name: str, findings: Findings, *, experiences: int, earlier: str | None, is_new: bool) -> None:
        """Report one accepted rollout: how many of its experiences count, and a file with the same content, if any.

        `earlier` is the name of another file with the same bytes; None if there is none, or it was renamed.
        """
        repeats = findings.repeats
        if not is_new:
            self._report_same(printable(name), earlier, "the same content as")
        elif repeats.is_same or (repeats.count and not experiences):
            self._report_same(printable(name), repeats.earlier, "the same experiences as", counts=repeats.is_same)
        elif repeats.is_nearly_same:
            self._report_same(printable(name), repeats.earlier, "nearly the same experiences as", counts=True)
        else:
            self._same.add_clean()
        if is_new and repeats.count and experiences:
            self._report_cumulative(printable(name), findings, experiences)
        else:
            self._cumulative.add_clean()
        self._report_double_done(printable(name), findings)

    def _report_same(self, name: str, earlier: str | None, what: str, *, counts: bool = False) -> None:
        effect = "it counts all the same" if counts else "counted once"
        if earlier is None:
            self._context.log.info(f"{name} has {what} an earlier rollout: {effect}")
            return
        self._same.add(
            f"{name} has {what} {printable(earlier)}: {effect} ({{count}} of these so far) -> does the game play the "
            "same each time? Start it with another random seed"
        )

    def _report_cumulative(self, name: str, findings: Findings, new: int) -> None:
        repeats = findings.repeats
        total = repeats.count + new
        if repeats.copies > 1 and not repeats.earlier:
            text = f"{name} contains each of its experiences {repeats.copies} times: each counts once -> store it once"
        else:
            text = (
                f"{name} repeats {repeats.count} of its {total} experiences from earlier rollouts, such as "
                f"{printable(repeats.earlier)}: only the {new} new ones count ({{count}} of these rollouts so far) -> "
                "empty the exporter's buffer after each export"
            )
        self._cumulative.add(text)

    def _report_double_done(self, name: str, findings: Findings) -> None:
        ledger = self._context.ledger
        if not findings.double_done:
            if self._double_done.add_clean():
                ledger.set_meta(_DOUBLE_DONE, None)
        elif not self._double_done.count:
            text = (
                f"in {name}, an episode ends twice without a step between: {findings.double_done} -> write one `done` "
                "for each episode, and no experience until the next one begins"
            )
            self._double_done.add(text)
            ledger.set_meta(_DOUBLE_DONE, text)


def stored_double_done(ledger: Ledger) -> str | None:
    """Return the last warning about two `done` in a row, while it lasts."""
    return ledger.meta(_DOUBLE_DONE)
