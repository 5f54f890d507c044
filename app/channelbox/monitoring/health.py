"""The health of a process, judged by its newest report."""

from channelbox.monitoring.process_reports import STALE_SECONDS, Report

LAGGING_MS = 250.0  # delay of the event loop that clients notice

STATES = ("stale", "draining", "lagging", "well")  # the unhealthy first


def state(report: Report) -> str:
    """Return one of STATES."""
    if report.age_s > STALE_SECONDS:
        return "stale"
    if report.draining:
        return "draining"
    return "lagging" if report.lag_ms > LAGGING_MS else "well"
