"""The changelog of the Debian package is generated from CHANGELOG.md."""

import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from channelbox.version import VERSION

ROOT = Path(__file__).parents[2]
spec = spec_from_file_location("channelbox_changelog", ROOT / "packaging" / "changelog.py")
assert spec and spec.loader
changelog = module_from_spec(spec)
sys.modules[spec.name] = changelog
spec.loader.exec_module(changelog)

TEXT = """# Changelog

## Unreleased

- Not yet.

## 1.2.0 - 2027-01-31

### Added

- A thing that takes
  two lines.
- Another.

### Fixed

- A mistake.

## 1.1.9 - 2026-12-24

- All.
"""


def test_the_newest_release_is_the_version_of_the_application() -> None:
    assert changelog.releases(ROOT / "CHANGELOG.md")[0].version == VERSION


def test_debian_changelog_has_the_expected_format(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text(TEXT)
    made = changelog.debian(changelog.releases(tmp_path / "CHANGELOG.md"), "deb13")
    assert made == (
        "channelbox (1.2.0~deb13) stable; urgency=medium\n\n"
        "  [ Added ]\n  * A thing that takes two lines.\n  * Another.\n"
        "  [ Fixed ]\n  * A mistake.\n\n"
        " -- channelbox maintainers <maintainers@channelbox.invalid>  Sun, 31 Jan 2027 06:00:00 +0000\n"
        "\n"
        "channelbox (1.1.9) stable; urgency=medium\n\n  * All.\n\n"
        " -- channelbox maintainers <maintainers@channelbox.invalid>  Thu, 24 Dec 2026 06:00:00 +0000\n"
    )


def test_no_line_is_longer_than_lintian_allows(tmp_path: Path) -> None:
    unreleased = (ROOT / "CHANGELOG.md").read_text().replace("## Unreleased", "## 9.9.9 - 2027-01-31")
    (tmp_path / "CHANGELOG.md").write_text(unreleased)
    made = changelog.debian(changelog.releases(tmp_path / "CHANGELOG.md"), "deb13")
    assert max(len(line) for line in made.splitlines() if not line.startswith(" -- ")) <= 80


def test_a_changelog_without_releases_is_an_error_with_an_example(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## Unreleased\n")
    with pytest.raises(ValueError, match=r"## 0\.2\.0 - 2026-12-01"):
        changelog.releases(tmp_path / "CHANGELOG.md")


def test_the_manual_page_has_placeholders_for_version_and_date() -> None:
    page = (ROOT / "packaging" / "debian" / "channelbox.8").read_text()
    assert page.startswith('.TH CHANNELBOX 8 @DATE@ "channelbox @VERSION@" ')


def test_the_python_package_has_the_application_version() -> None:
    # The version that setuptools reads from pyproject.toml, without installing or building anything.
    program = (
        "from setuptools.config.pyprojecttoml import read_configuration as r; "
        "print(r('pyproject.toml')['project']['version'])"
    )
    shown = subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.strip() == VERSION, shown.stderr
