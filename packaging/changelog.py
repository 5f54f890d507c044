"""Releases in CHANGELOG.md, the source of the Debian package's version, its changelog and its manual page's header."""

import re
import textwrap
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

HEADING = re.compile(r"^## (?P<version>\d+\.\d+\.\d+) - (?P<date>\d{4}-\d{2}-\d{2})$", re.MULTILINE)
MAX_LINE = 78  # columns; lintian warns from 81 on
MAINTAINER = "channelbox maintainers <maintainers@channelbox.invalid>"


@dataclass(frozen=True)
class Release:
    """One released version. `text` is its section of CHANGELOG.md, without the heading."""

    version: str
    date: datetime
    text: str


def releases(changelog: Path) -> list[Release]:
    """Return the releases, newest first, without the section "Unreleased". Raises ValueError if there is none."""
    text = changelog.read_text()
    headings = list(HEADING.finditer(text))
    if not headings:
        raise ValueError(f"{changelog} has no heading of a release, such as: ## 0.2.0 - 2026-12-01")
    ends = [heading.start() for heading in headings[1:]] + [len(text)]
    return [
        Release(
            heading["version"],
            datetime.fromisoformat(heading["date"]).replace(hour=6, tzinfo=UTC),
            text[heading.end() : end].strip(),
        )
        for heading, end in zip(headings, ends, strict=True)
    ]


def debian(releases: list[Release], suffix: str) -> str:
    """Return the Debian changelog (deb-changelog(5)). `suffix` marks the newest version with its Debian release."""
    entries = []
    for number, release in enumerate(releases):
        version = release.version if number else f"{release.version}~{suffix}"
        entries.append(
            f"channelbox ({version}) stable; urgency=medium\n\n{_details(release.text)}\n\n"
            f" -- {MAINTAINER}  {format_datetime(release.date)}\n"
        )
    return "\n".join(entries)


def _details(text: str) -> str:
    """Convert the headings, list items and continuation lines of Markdown to the form of a Debian changelog."""
    blocks: list[str] = []
    for line in text.splitlines():
        if line.startswith(("### ", "- ")):
            blocks.append(line)
        elif line.strip():
            blocks[-1] += f" {line.strip()}"
    lines = []
    for block in blocks:
        if block.startswith("### "):
            lines.append(f"  [ {block.removeprefix('### ')} ]")
        else:
            lines += textwrap.wrap(
                block.removeprefix("- "),
                MAX_LINE,
                initial_indent="  * ",
                subsequent_indent="    ",
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines)
