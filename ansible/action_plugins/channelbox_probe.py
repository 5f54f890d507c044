"""Action plugin for channelbox_probe: runs the module and compares the node's clock with the controller's."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

_READINGS = 3


class ActionModule(ActionBase):
    """Adds `clock` to the result of the module.

    The module cannot measure how long it took to start on the node, so a bare command reads the clock over the open
    connection.
    """

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        node = (task_vars or {}).get("inventory_hostname", "the node")
        if self._low_level_execute_command("command -v /usr/bin/python3")["rc"]:
            raise AnsibleActionFail(f"{node} has no Python. On that node, run: apt-get install python3 python3-apt")
        result.update(self._execute_module(task_vars=task_vars))
        if not result.get("failed"):
            result["clock"] = self._clock()
        return result

    def _clock(self) -> dict[str, float]:
        """Return how far the node's clock is ahead of the controller's, in seconds: at least `low`, at most `high`."""
        readings = []
        for _ in range(_READINGS):
            before = time.time()
            answer = self._low_level_execute_command("date +%s.%N")
            after = time.time()
            if answer["rc"]:
                raise AnsibleActionFail(f"Cannot read the clock: {answer['stderr']}")
            node = float(answer["stdout"].strip().splitlines()[-1])
            readings.append({"low": node - after, "high": node - before})
        return min(readings, key=lambda reading: reading["high"] - reading["low"])
