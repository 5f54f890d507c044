#!/usr/bin/python3
"""Ansible module: find out whether a running unit is older than its configuration. It changes nothing itself."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: channelbox_stale
short_description: Finds out whether a unit must be restarted or reloaded for its files to take effect
description: >-
  Compares the time of each file with the time of the unit's start or last reload. A handler that is notified by the
  task that writes a file is lost if the run is killed before the handler runs. A handler that is notified by this
  module is notified again by the next run. I(changed) is true if a restart or a reload is due.
options:
  unit:
    description: A unit, or a pattern that matches loaded units.
    type: str
    required: true
  restart_for:
    description: Files that take effect at a restart of the unit.
    type: list
    elements: path
    default: []
  reload_for:
    description: Files that take effect at a reload of the unit.
    type: list
    elements: path
    default: []
"""

FORMAT = "%a %Y-%m-%d %H:%M:%S.%f %Z"


def changed_at(files: list[str]) -> float:
    """Return when any of the files last changed: its content, place, owner or mode. 0 if none exists."""
    return max((Path(file).stat().st_ctime for file in files if Path(file).exists()), default=0.0)


def units(pattern: str) -> list[dict[str, str]]:
    """Return the properties of each active unit that the pattern matches."""
    properties = "--property=Id,ActiveState,ActiveEnterTimestamp,StateChangeTimestamp"
    answer = subprocess.run(
        ["systemctl", "show", "--timestamp=us+utc", properties, pattern], capture_output=True, text=True, check=True
    ).stdout
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in answer.strip().split("\n\n")]
    return [block for block in blocks if block.get("ActiveState") == "active"]


def seconds(timestamp: str) -> float:
    """Convert a time of systemd, as in `Tue 2026-11-24 06:00:00.123456 UTC`, to seconds since the epoch."""
    return datetime.strptime(timestamp, FORMAT).replace(tzinfo=UTC).timestamp()


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "unit": {"type": "str", "required": True},
            "restart_for": {"type": "list", "elements": "path", "default": []},
            "reload_for": {"type": "list", "elements": "path", "default": []},
        },
        supports_check_mode=True,
    )
    written, loaded = changed_at(module.params["restart_for"]), changed_at(module.params["reload_for"])
    running = units(module.params["unit"])
    restart = [unit["Id"] for unit in running if seconds(unit["ActiveEnterTimestamp"]) < written]
    # Both a reload and a restart change the state for a moment.
    reload = [unit["Id"] for unit in running if seconds(unit["StateChangeTimestamp"]) < loaded]
    module.exit_json(changed=bool(restart or reload), restart=restart, reload=reload)


if __name__ == "__main__":
    main()
