"""Shows the dashboard on the console instead of log lines; if it fails, log lines are printed again."""

from __future__ import annotations

from daemon.ui.dashboard import Dashboard
from daemon.ui.log import Log
from daemon.ui.snapshot import Snapshot


class DashboardScreen:
    """Shows the dashboard. Log lines are printed again after it has failed or was stopped."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._dashboard: Dashboard | None = Dashboard()
        log.mute_console()

    def show(self, snapshot: Snapshot) -> None:
        """Show the newest snapshot."""
        if self._dashboard is None:
            return
        if not self._dashboard.alive:
            failure, self._dashboard = self._dashboard.failure, None
            self._log.unmute_console()
            self._log.warning(
                f"the dashboard was switched off: {failure or 'the terminal was closed'}; the daemon continues"
            )
            return
        self._dashboard.show(snapshot)

    def stop(self) -> None:
        """Stop the dashboard and print log lines again."""
        if self._dashboard is not None:
            self._dashboard.stop()
            self._dashboard = None
        self._log.unmute_console()
