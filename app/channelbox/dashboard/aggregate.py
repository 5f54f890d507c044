"""From the processes' reports to what the dashboard shows: a pure function.

The dashboard's socket sends ``{"data": <this>}``::

    {
        "at": "2026-11-24T08:00:00.123Z",   # Redis' clock when the reports were read
        "totals": {
            "connections": 12,              # sockets open now in the whole installation, chat and dashboard
            "rooms": 3,                     # rooms with somebody in them, each counted once
            "messages_per_s": 4.0,          # messages stored
            "delivered_per_s": 48.0,        # frames written to clients
            "store_p50_ms": 5.1,            # how long storing took over the last 10 s; null: nothing was stored
            "store_p99_ms": 9.8,
            "queue": 0,                     # messages that wait for a worker; null: nobody could look
            "nodes": 2,
            "processes": 6,                 # those in the list below
        },
        "nodes": {
            "web-1": {
                "connections": 12,          # null on a node without web processes
                "messages_per_s": 4.0,      # stored by its workers; null on a node without workers
                "delivered_per_s": 48.0,    # null on a node without web processes
                "lag_ms": 1.2,              # the worst of its processes
            },
        },
        "processes": [                      # the unwell first, then by node and unit
            {
                "node": "web-1",
                "unit": "web@1",
                "kind": "web",              # or "worker"
                "version": "0.1.0",
                "up_since": "2026-11-24T07:00:00Z",
                "age_s": 0.4,               # of its newest report
                "connections": 12,          # 0 for a worker
                "rooms": 3,                 # rooms with members in this process, 0 for a worker
                "messages_per_s": 4.0,      # web: taken from clients; worker: stored
                "delivered_per_s": 48.0,    # 0 for a worker
                "lag_ms": 1.2,              # the longest that its event loop was late in the last second
                "memory_mb": 61.5,          # resident
                "state": "well",            # or "lagging", "draining" (going away), "stale" (no news for 3 s)
            },
        ],
    }

A process without news for 15 s is left out: it is dead. The figures of a stale one are its last and still count.

The series (`dashboard/series.py`) has the same names: every figure of ``totals``, and for each node those of ``nodes``.
"""
