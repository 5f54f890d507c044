"""Builds the Debian package for each release: `make deb`.

Everything that comes from a registry is fetched on this machine, by the hashes in packaging/; the package itself is
built without a network in a container of its release. A package whose ingredients have not changed is not built again.
"""

import argparse
import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import changelog
from builder import builder_image
from containers import BUILD, PACKAGING, RELEASES, ROOT, Release, in_container
from nodes.machine import prepare
from nodes.run import NodeError

CHANGELOG = ROOT / "CHANGELOG.md"
DEBS, VENDOR = BUILD / "deb", BUILD / "vendor"
# Everything that a package is built from, apart from the lock file of its release.
INGREDIENTS = ("app", "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "packaging")
NOT_INGREDIENTS = ("__pycache__", "locks", "channelbox.egg-info")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", nargs="*", help="deb12, deb13 (both if none is given)")
    parser.add_argument("--lintian", action="store_true", help="have lintian judge the packages and fail on a finding")
    options = parser.parse_args()
    releases = [r for r in RELEASES if not options.release or r.suffix in options.release]
    try:
        prepare()
        version = changelog.releases(CHANGELOG)[0].version
        DEBS.mkdir(parents=True, exist_ok=True)
        # Concurrent runs take turns; the second finds the packages that the first has built.
        with (DEBS / "lock").open("w") as lock, ThreadPoolExecutor(len(releases)) as pool:
            fcntl.flock(lock, fcntl.LOCK_EX)
            list(pool.map(lambda release: build(release, version, lintian=options.lintian), releases))
    except (NodeError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"{error}\n{error.stdout or ''}{error.stderr or ''}", file=sys.stderr)
        return 1
    return 0


def build(release: Release, version: str, *, lintian: bool) -> None:
    """Build a release's package into build/deb, unless the existing one was built from the same ingredients."""
    deb = DEBS / f"channelbox_{version}~{release.suffix}_amd64.deb"
    key, made_from = _key(release, version), deb.with_suffix(".made-from")
    builder = builder_image(release)
    if not (deb.exists() and made_from.exists() and made_from.read_text() == key):
        release.say(f"building {deb.name}")
        work = DEBS / release.suffix
        shutil.rmtree(work, ignore_errors=True)
        source = _source_tree(release, version, work)
        (work / "build.log").write_text(in_container(builder, source, "dpkg-buildpackage --build=binary --no-sign"))
        (work / deb.name).replace(deb)
        made_from.write_text(key)
    release.say(f"{deb.relative_to(ROOT)} ({deb.stat().st_size // 1_000_000} MB)")
    if lintian:
        command = f"lintian --fail-on error,warning --info --allow-root {deb.name}"
        print(in_container(builder, DEBS, command), end="")


def _key(release: Release, version: str) -> str:
    digest = hashlib.sha256(version.encode())
    for path in [*_files(), release.lock]:
        digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_mode & 0o111}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _files() -> Iterator[Path]:
    for name in INGREDIENTS:
        path = ROOT / name
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and not set(NOT_INGREDIENTS).intersection(file.parts):
                yield file


def _source_tree(release: Release, version: str, work: Path) -> Path:
    """Create the source tree that debian/rules expects: debian/, vendor/ and the wheel of channelbox itself."""
    source = work / "source"
    shutil.copytree(PACKAGING / "debian", source / "debian")
    shutil.copytree(VENDOR, source / "vendor")
    # Build from a copy: setuptools creates build/ in the project folder, and would package leftovers of an earlier run.
    project = work / "project"
    for file in _files():
        target = project / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
    wheel = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(source), str(project)]
    subprocess.run(wheel, check=True, capture_output=True, text=True)
    released = changelog.releases(CHANGELOG)
    (source / "debian" / "changelog").write_text(changelog.debian(released, release.suffix))
    page = source / "debian" / "channelbox.8"
    text = page.read_text().replace("@VERSION@", version).replace("@DATE@", f"{released[0].date:%Y-%m-%d}")
    page.write_text(text)
    return source


if __name__ == "__main__":
    sys.exit(main())
