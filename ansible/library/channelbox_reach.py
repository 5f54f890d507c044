#!/usr/bin/python3
"""Ansible module: find out which other nodes this node cannot reach. It changes nothing.

This module and channelbox_probe must run on older versions of Python too, so that a release that is too old is refused
with a sentence rather than with a traceback.
"""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: channelbox_reach
short_description: Tries TCP connections to other nodes
description: >-
  A connection that is refused counts as reached: the other node answered, only its service is not installed yet. A
  target is unreachable if the connection is dropped, rejected by a filter or not routed.
options:
  targets:
    description: The targets of the connections, each as C(address:port).
    type: list
    elements: str
    default: []
  timeout:
    description: Seconds to wait for each target. All are tried at the same time.
    type: float
    default: 3
"""


def trouble(target: str, timeout: float) -> str:
    """Return why the target cannot be reached; empty if it can."""
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout).close()
    except ConnectionRefusedError:
        return ""
    except TimeoutError:
        return f"no answer within {timeout:g} s"
    except OSError as error:
        return error.strerror or str(error)
    return ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "targets": {"type": "list", "elements": "str", "default": []},
            "timeout": {"type": "float", "default": 3},
        },
        supports_check_mode=True,
    )
    targets, timeout = module.params["targets"], module.params["timeout"]
    with ThreadPoolExecutor(max_workers=max(1, len(targets))) as threads:
        answers = threads.map(lambda target: {"target": target, "why": trouble(target, timeout)}, targets)
        # Not named `unreachable`, because Ansible gives that key of a result a meaning of its own.
        silent = [answer for answer in answers if answer["why"]]
    module.exit_json(changed=False, silent=silent)


if __name__ == "__main__":
    main()
