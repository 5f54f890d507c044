"""Lookup of a secret that the controller keeps: generated at its first use, the same from then on."""

from __future__ import annotations

import contextlib
import os
import secrets
import string
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = r"""
name: channelbox_secret
short_description: Reads a secret of this installation, or generates it
description: >-
  The secret is one line in a file of mode 0600, in a folder of mode 0700. Many tasks may look it up at the same time,
  and a task that is killed leaves no empty file.
options:
  _terms:
    description: The name of the secret, which is also the name of its file.
    required: true
  folder:
    description: The folder on the controller in which secrets are kept.
    type: path
    required: true
  keep:
    description: Whether a new secret may be written. In check mode it must not be.
    type: bool
    default: true
"""

# Django asks for a secret key of at least 50 characters.
LENGTH = 60
LEAST = 16
LETTERS = string.ascii_letters + string.digits


class LookupModule(LookupBase):
    """Returns one value for each name."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        folder = Path(self.get_option("folder")).expanduser()
        return [self._secret(folder / name, self.get_option("keep")) for name in terms]

    def _secret(self, path: Path, keep: bool) -> str:
        if not path.exists():
            fresh = "".join(secrets.choice(LETTERS) for _ in range(LENGTH))
            if not keep:
                return fresh
            _write_new(path, fresh)
        secret = path.read_text().strip()
        if len(secret) < LEAST or set(secret) - set(LETTERS):
            raise AnsibleLookupError(
                f"{path} does not hold a usable secret, which is one line of at least {LEAST} letters and digits. "
                "Restore the file from your backup. If the installation has never run, delete the file."
            )
        return secret


def _write_new(path: Path, text: str) -> None:
    """Create the file with its complete text, unless another process has just created it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=path.parent)  # of mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text + "\n")
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        Path(draft).unlink()
