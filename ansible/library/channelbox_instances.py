#!/usr/bin/python3
"""Ansible module: run N instances of a template unit, and leave instances alone that were added by hand."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: channelbox_instances
short_description: Enables and starts the first N instances of a template unit
description: >-
  The number is recorded on the node. When it becomes smaller, the instances between the new and the recorded number
  are stopped and disabled. Further instances that an administrator enabled with systemctl are never touched.
options:
  template:
    description: The name of the template up to its @, as in C(channelbox-web).
    type: str
    required: true
  count:
    description: The number of instances.
    type: int
    required: true
  units:
    description: Other units to enable and start before the instances.
    type: list
    elements: str
    default: []
  record:
    description: The file in which the number of each template is recorded.
    type: path
    default: /etc/channelbox/instances.json
"""


def systemctl(module: AnsibleModule, *arguments: str) -> str:
    """Run systemctl and return its output; on failure, end the module with the units' last journal entries."""
    command = ["systemctl", *arguments]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        journal = ["journalctl", "--no-pager", "--lines=30", "--output=cat"]
        units = [argument for argument in arguments if "." in argument or "@" in argument]
        for unit in units:
            journal += ["--unit", unit]
        said = subprocess.run(journal, capture_output=True, text=True).stdout
        module.fail_json(msg=f"{' '.join(command)} failed: {result.stderr.strip()}\nFrom the journal:\n{said}")
    return result.stdout


def states(module: AnsibleModule, units: list[str]) -> dict[str, tuple[str, str]]:
    """Return UnitFileState and ActiveState of each unit."""
    shown = systemctl(module, "show", "--property=UnitFileState,ActiveState", *units)
    blocks = [dict(line.partition("=")[::2] for line in block.splitlines()) for block in shown.strip().split("\n\n")]
    return {
        unit: (block.get("UnitFileState", ""), block.get("ActiveState", ""))
        for unit, block in zip(units, blocks, strict=True)
    }


def load(record: str) -> dict[str, int]:
    """Return the recorded number of each template."""
    path = Path(record)
    numbers: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    return numbers


def save(record: str, numbers: dict[str, int]) -> None:
    """Record the numbers. The file is replaced as a whole, so that it is complete at any moment."""
    fresh = Path(record + ".new")
    fresh.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")
    fresh.replace(record)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "template": {"type": "str", "required": True},
            "count": {"type": "int", "required": True},
            "units": {"type": "list", "elements": "str", "default": []},
            "record": {"type": "path", "default": "/etc/channelbox/instances.json"},
        },
        supports_check_mode=True,
    )
    template, count, record = module.params["template"], module.params["count"], module.params["record"]
    numbers = load(record)
    kept = numbers.get(template, count)
    wanted = [*module.params["units"], *(f"{template}@{number}.service" for number in range(1, count + 1))]
    surplus = [f"{template}@{number}.service" for number in range(count + 1, kept + 1)]

    before = states(module, [*wanted, *surplus])
    start = [unit for unit in wanted if before[unit] != ("enabled", "active")]
    stop = [unit for unit in surplus if before[unit] != ("disabled", "inactive")]
    changed = bool(start or stop or numbers.get(template) != count)
    if changed and not module.check_mode:
        # Units to be stopped stay recorded until they have stopped, so that the run after a killed one finds them.
        save(record, {**numbers, template: max(kept, count)})
        if start:
            systemctl(module, "enable", "--now", "--quiet", *start)
        if stop:
            systemctl(module, "disable", "--now", "--quiet", *stop)
        save(record, {**numbers, template: count})
    module.exit_json(changed=changed, started=start, stopped=stop)


if __name__ == "__main__":
    main()
