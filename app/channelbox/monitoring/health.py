"""When a process is well, and when its report is too old to be believed."""

from channelbox.monitoring.process_reports import STALE_SECONDS, Report

LAGGING_MS = 250.0  # an event loop that late is felt by those who wait for it

STATES = ("stale", "draining", "lagging", "well")  # the unwell first


def state(report: Report) -> str:
    """One of STATES."""
    if report.age_s > STALE_SECONDS:
        return "stale"
    if report.draining:
        return "draining"
    return "lagging" if report.lag_ms > LAGGING_MS else "well"
