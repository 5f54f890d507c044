"""Overload scenarios, one per module. Each has a `TITLE` and `run(site)`, which returns an Outcome."""

from types import ModuleType

from bench.overload.scenarios import (
    deaf,
    flood,
    frames,
    opening,
    requests,
    returning,
    storing,
    storm,
    typing,
    visitors,
)

MODULES = (storing, deaf, flood, frames, requests, visitors, typing, opening, storm, returning)
SCENARIOS: dict[str, ModuleType] = {module.__name__.rpartition(".")[2]: module for module in MODULES}
