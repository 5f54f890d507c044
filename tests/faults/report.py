"""Reports a verdict as a table, and as JSON."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from tests.faults.faults import RECOVERY_SECONDS, Fault
from tests.faults.verdict import (
    ABSENT,
    DENIED,
    DOUBLED,
    GAP,
    KINDS,
    LOST,
    NUMBER,
    ORDER,
    PROTOCOL,
    UNANSWERED,
    FaultResult,
    Verdict,
)

MAX_ALLOWANCE_SECONDS = 5.0  # for a machine that wakes the checker late
COLUMNS = (LOST, DOUBLED, GAP, ORDER)
OTHERS = (NUMBER, ABSENT, DENIED, UNANSWERED, PROTOCOL)


def late(verdict: Verdict, faults: Sequence[Fault]) -> list[FaultResult]:
    """Return the faults after whose end a client lagged behind for longer than their limit.

    The delay of the machine itself is allowed in addition, up to 5 s, because with too few cores everything waits,
    including the checker.
    """
    limits = {fault.name: fault.limit for fault in faults}
    return [
        each
        for each in verdict.faults
        if each.stale > limits.get(each.window.name, RECOVERY_SECONDS) + min(each.late, MAX_ALLOWANCE_SECONDS)
    ]


def passed(verdict: Verdict, faults: Sequence[Fault]) -> bool:
    return not verdict.findings and not late(verdict, faults)


def show(verdict: Verdict, faults: Sequence[Fault], console: Console) -> None:
    """Print the table, and the first findings of each kind."""
    limits = {fault.name: fault.limit for fault in faults}
    over = late(verdict, faults)
    table = Table("fault", *COLUMNS, "other", "stale", "limit", "machine", "waited", "accepted", box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    for under in verdict.faults:
        others = sum(under.wrong[kind] for kind in OTHERS)
        limit = limits.get(under.window.name, RECOVERY_SECONDS)
        table.add_row(
            under.window.name,
            *(str(under.wrong[kind]) for kind in COLUMNS),
            str(others),
            f"{under.stale:.1f} s" + ("!" if under in over else ""),
            f"{limit:.0f} s",
            f"{under.late:.1f} s",
            f"{under.waited:.1f} s",
            str(under.accepted),
        )
    console.print(table)
    counts = verdict.counts
    console.print(
        f"{verdict.said} said, {verdict.accepted} accepted, {verdict.stored} stored; {verdict.clients} clients, "
        f"{verdict.reconnects} reconnects. " + ", ".join(f"{kind} {counts[kind]}" for kind in KINDS)
    )
    if passed(verdict, faults):
        console.print("Every promise was kept.")
    elif over:
        console.print("Behind for too long (!): " + ", ".join(under.window.name for under in over), highlight=False)
    for kind in KINDS:
        for finding in [each for each in verdict.findings if each.kind == kind][:3]:
            console.print(f"  {kind}: {finding.sentence}", highlight=False)


def write(path: Path, verdict: Verdict, faults: Sequence[Fault], **about: Any) -> None:
    """Write the verdict as JSON, together with the parameters of the run in `about`."""
    limits = {fault.name: fault.limit for fault in faults}
    rows = [
        {
            "fault": under.window.name,
            **{kind: under.wrong[kind] for kind in KINDS},
            "stale_s": round(under.stale, 2),
            "limit_s": limits.get(under.window.name, RECOVERY_SECONDS),
            "machine_late_s": round(under.late, 2),
            "waited_s": round(under.waited, 2),
            "accepted": under.accepted,
        }
        for under in verdict.faults
    ]
    content = {
        **about,
        "passed": passed(verdict, faults),
        "said": verdict.said,
        "accepted": verdict.accepted,
        "stored": verdict.stored,
        "clients": verdict.clients,
        "reconnects": verdict.reconnects,
        "totals": {kind: verdict.counts[kind] for kind in KINDS},
        "faults": rows,
        "findings": [finding._asdict() for finding in verdict.findings[:200]],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
