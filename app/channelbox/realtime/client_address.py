"""The unit in which client addresses are counted for limits."""

import functools
import ipaddress


@functools.lru_cache(maxsize=10_000)
def network(address: str) -> str:
    """Return the unit in which an address is counted: for IPv6 its /64 network, as each customer has at least one.

    An IPv4-mapped address counts as its IPv4 address. A string that is no address gives "unknown".
    """
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
