"""Hundreds of people behind one address who all request pages, without pause."""

from bench.overload.outcome import Outcome
from bench.overload.scenarios.requests import flood
from bench.overload.site import Site

TITLE = "300 people behind one address ask for the list of rooms"
VISITORS = 300


async def run(site: Site) -> Outcome:
    cookies = site.address.cookies
    return await flood(site, [cookies[site.person() % len(cookies)] for _ in range(VISITORS)])
