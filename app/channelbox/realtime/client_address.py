"""Whose address it is, where addresses are counted."""

import functools
import ipaddress


@functools.lru_cache(maxsize=10_000)
def network(address: str) -> str:
    """What counts as one address: for IPv6 a /64, since each customer has at least as many."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        return str(parsed.ipv4_mapped or ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
