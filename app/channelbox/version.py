"""The version of the package, and that of the WebSocket protocol (docs/protocol.md)."""

import functools
from importlib.metadata import PackageNotFoundError, version

VERSION = "0.1.0"  # of the package; CHANGELOG.md says what is new in it
PROTOCOL = 2  # version 1 had neither epochs nor floors


@functools.cache
def package_version() -> str:
    """Return the package's version, or "checkout" where the code runs without being installed."""
    try:
        return version("channelbox")
    except PackageNotFoundError:
        return "checkout"
