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
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGING, BUILD = ROOT / "packaging", ROOT / "build"
DEBS, WHEELS, VENDOR = BUILD / "deb", BUILD / "wheels", BUILD / "vendor"

sys.path.insert(0, str(ROOT / "molecule" / "shared"))
from nodes.image import ensure_image  # noqa: E402
from nodes.machine import prepare  # noqa: E402
from nodes.podman import image_exists, podman  # noqa: E402
from nodes.run import NodeError  # noqa: E402

BUILD_TOOLS = ("build-essential", "debhelper", "fakeroot", "lintian", "python3-pip")
PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux1")
# All that goes into a package besides the lock file of its release.
INGREDIENTS = ("app", "LICENSE", "README.md", "pyproject.toml", "packaging")
NOT_INGREDIENTS = ("__pycache__", "locks", "channelbox.egg-info")


@dataclass(frozen=True)
class Release:
    suffix: str
    codename: str
    python: str

    @property
    def lock(self) -> Path:
        return PACKAGING / "locks" / f"{self.suffix}.txt"


RELEASES = (Release("deb12", "bookworm", "3.11"), Release("deb13", "trixie", "3.13"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", nargs="*", help="deb12, deb13 (both if none is given)")
    parser.add_argument("--lintian", action="store_true", help="have lintian judge the packages and fail on a finding")
    options = parser.parse_args()
    releases = [r for r in RELEASES if not options.release or r.suffix in options.release]
    try:
        prepare()
        version = _changelog_version()
        DEBS.mkdir(parents=True, exist_ok=True)
        # Two at once take turns, and the second finds what the first has built.
        with (DEBS / "lock").open("w") as lock, ThreadPoolExecutor(len(releases)) as pool:
            fcntl.flock(lock, fcntl.LOCK_EX)
            list(pool.map(lambda release: build(release, version, lintian=options.lintian), releases))
    except NodeError as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"{error}\n{error.stdout or ''}{error.stderr or ''}", file=sys.stderr)
        return 1
    return 0


def build(release: Release, version: str, *, lintian: bool) -> None:
    """Build one release's package into build/deb, unless the one that is there is made from the same things."""
    deb = DEBS / f"channelbox_{version}~{release.suffix}_amd64.deb"
    key, made_from = _key(release, version), deb.with_suffix(".made-from")
    builder = _builder_image(release)
    if not (deb.exists() and made_from.exists() and made_from.read_text() == key):
        _say(release, f"building {deb.name}")
        work = DEBS / release.suffix
        shutil.rmtree(work, ignore_errors=True)
        source = _source_tree(release, version, work)
        log = work / "build.log"
        _in_container(builder, source, "dpkg-buildpackage --build=binary --no-sign", log)
        built = work / deb.name
        built.replace(deb)
        made_from.write_text(key)
    _say(release, f"{deb.relative_to(ROOT)} ({deb.stat().st_size // 1_000_000} MB)")
    if lintian:
        command = f"lintian --fail-on error,warning --info --allow-root {deb.name}"
        print(_in_container(builder, DEBS, command, None), end="")


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
    """Lay out what debian/rules expects: debian/, wheels/, requirements.txt and vendor/."""
    source = work / "source"
    shutil.copytree(PACKAGING / "debian", source / "debian")
    shutil.copytree(_wheels(release), source / "wheels")
    shutil.copytree(VENDOR, source / "vendor")
    own = _own_wheel(work, source / "wheels")
    digest = hashlib.sha256(own.read_bytes()).hexdigest()
    name, own_version = own.name.split("-")[:2]
    requirements = f"{release.lock.read_text()}\n{name}=={own_version} --hash=sha256:{digest}\n"
    (source / "requirements.txt").write_text(requirements)
    changelog = source / "debian" / "changelog"
    text = changelog.read_text()
    changelog.write_text(text.replace(f"({_changelog_version()})", f"({version}~{release.suffix})", 1))
    return source


def _wheels(release: Release) -> Path:
    """A folder with the wheels of the lock file, fetched once for each content of it."""
    folder = WHEELS / f"{release.suffix}-{hashlib.sha256(release.lock.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        _say(release, "fetching wheels")
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        short = release.python.replace(".", "")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--only-binary=:all:", "--python-version", release.python, "--implementation", "cp"]
        command += [word for abi in (f"cp{short}", "abi3", "none") for word in ("--abi", abi)]
        command += [word for platform in PLATFORMS for word in ("--platform", f"{platform}_x86_64")]
        _run([*command, "--requirement", str(release.lock), "--dest", str(part)])
        part.rename(folder)
    return folder


def _own_wheel(work: Path, wheels: Path) -> Path:
    # In a copy: setuptools leaves its own build/ in the folder, and would take what an earlier run left there.
    copy = work / "project"
    for file in _files():
        target = copy / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, target)
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(copy)])
    return next(wheels.glob("channelbox-*.whl"))


def _builder_image(release: Release) -> str:
    """An image of the release with the build tools, made from the node image."""
    node = ensure_image(release.codename)
    recipe = hashlib.sha256(repr((node, BUILD_TOOLS)).encode()).hexdigest()[:12]
    image = f"localhost/channelbox-builder:{release.suffix}-{recipe}"
    if not image_exists(image):
        _say(release, "installing the build tools into an image (once)")
        container = f"channelbox-builder-{release.suffix}-{recipe}"
        install = f"apt-get -q update && apt-get -q install --yes --no-install-recommends {' '.join(BUILD_TOOLS)}"
        podman("rm", "--force", "--ignore", container)
        try:
            podman("run", "--name", container, "--env", "DEBIAN_FRONTEND=noninteractive", node, "sh", "-c", install)
            podman("commit", "--quiet", container, image)
        finally:
            podman("rm", "--force", "--ignore", container)
    return image


def _in_container(image: str, folder: Path, command: str, log: Path | None) -> str:
    """Run a command in a folder of this machine, seen from a container without a network; gives its output."""
    mount = ["--volume", f"{folder.parent}:/{folder.parent.name}", "--workdir", f"/{folder.parent.name}/{folder.name}"]
    try:
        output = podman("run", "--rm", "--network=none", *mount, image, "sh", "-c", f"{command} 2>&1")
    except NodeError as error:
        if log:
            log.write_text(str(error))
        raise
    if log:
        log.write_text(output)
    return output


def _changelog_version() -> str:
    return (PACKAGING / "debian" / "changelog").read_text().split("(", 1)[1].split(")", 1)[0]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _say(release: Release, text: str) -> None:
    print(f"== {release.suffix}: {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
