"""Container images of the supported Debian releases, cached by a hash of their ingredients."""

import fcntl
import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PACKAGING = Path(__file__).resolve().parent
ROOT = PACKAGING.parent
BUILD = ROOT / "build"

sys.path.insert(0, str(ROOT / "molecule" / "shared"))
from nodes.image import IMAGES, ensure_image  # noqa: E402
from nodes.names import network_name  # noqa: E402
from nodes.podman import image_exists, podman  # noqa: E402

PLATFORMS = ("manylinux_2_28", "manylinux_2_17", "manylinux2014", "manylinux1")


@dataclass(frozen=True)
class Release:
    suffix: str
    codename: str
    python: str

    @property
    def lock(self) -> Path:
        """The lock file of the libraries that channelbox needs at run time."""
        return PACKAGING / "locks" / f"{self.suffix}.txt"

    @property
    def dev_lock(self) -> Path:
        """The lock file of the libraries for run time and for tests."""
        return PACKAGING / "locks" / f"{self.suffix}-dev.txt"

    def say(self, text: str) -> None:
        print(f"== {self.suffix}: {text}", flush=True)


RELEASES = (Release("deb12", "bookworm", "3.11"), Release("deb13", "trixie", "3.13"))


def in_container(image: str, folder: Path, command: str) -> str:
    """Run a shell command in a host folder, inside a container without network access. Returns its output."""
    parent = f"/{folder.parent.name}"
    mount = ["--volume", f"{folder.parent}:{parent}", "--workdir", f"{parent}/{folder.name}"]
    return podman("run", "--rm", "--network=none", *mount, image, "sh", "-c", f"{command} 2>&1")


def with_packages(kind: str, release: Release, packages: tuple[str, ...]) -> str:
    """Return the node image of a release with these Debian packages added; built if missing.

    Safe to call twice at the same time, as `with_libraries` is.
    """
    node = ensure_image(release.codename)
    image = _name(kind, release, node, *packages)
    with _locked(image):
        if not image_exists(image):
            release.say(f"installing {', '.join(packages)} into an image (once)")
            install = f"apt-get -q update && apt-get -q install --yes --no-install-recommends {' '.join(packages)}"
            _commit(image, ["--env", "DEBIAN_FRONTEND=noninteractive", node, "sh", "-c", install])
    return image


def with_libraries(kind: str, release: Release, base: str, lock: Path, script: Path) -> str:
    """Return an image with the libraries of a lock file, installed offline by `script` from /wheels; built if missing.

    The script finds the lock file at /requirements.txt.
    """
    image = _name(kind, release, base, lock.read_text(), script.read_text())
    with _locked(image):
        if not image_exists(image):
            wheels = _wheels(release, lock)
            release.say(f"installing the libraries of {lock.name} into an image (once for each content of it)")
            mounts: Mapping[Path, str] = {wheels: "/wheels", lock: "/requirements.txt", script: "/script.sh"}
            volumes = [word for source, target in mounts.items() for word in ("--volume", f"{source}:{target}:ro")]
            _commit(image, ["--network=none", *volumes, base, "sh", "/script.sh"])
            _remove_others(image, release)
    return image


def _name(kind: str, release: Release, *ingredients: str) -> str:
    recipe = hashlib.sha256("\0".join(ingredients).encode()).hexdigest()[:12]
    return f"localhost/channelbox-{kind}:{release.suffix}-{recipe}"


@contextmanager
def _locked(image: str) -> Iterator[None]:
    """Wait until no other process of this checkout builds the image."""
    with (IMAGES / f"{_slug(image)}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _slug(image: str) -> str:
    return image.rpartition("/")[2].replace(":", "-")


def _container_name(image: str) -> str:
    """Return a name that contains the checkout: another one may build the same image."""
    return network_name(_slug(image))


def _commit(image: str, run: list[str]) -> None:
    with _container(_container_name(image)) as container:
        podman("run", "--name", container, *run)
        podman("commit", "--quiet", container, image)


@contextmanager
def _container(name: str) -> Iterator[str]:
    podman("rm", "--force", "--ignore", name)
    try:
        yield name
    finally:
        podman("rm", "--force", "--ignore", name)


def _remove_others(image: str, release: Release) -> None:
    repository, tag = image.rsplit(":", 1)
    tags = podman("images", "--filter", f"reference={repository}", "--format", "{{.Tag}}").split()
    for other in tags:
        if other.startswith(f"{release.suffix}-") and other != tag:
            podman("image", "rm", f"{repository}:{other}")


def _wheels(release: Release, lock: Path) -> Path:
    """Return a folder with the wheels of a lock file, verified by hash and fetched once per version of the file."""
    folder = BUILD / "wheels" / f"{lock.stem}-{hashlib.sha256(lock.read_bytes()).hexdigest()[:12]}"
    if not folder.exists():
        release.say("fetching wheels")
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        short = release.python.replace(".", "")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--only-binary=:all:", "--python-version", release.python, "--implementation", "cp"]
        command += [word for abi in (f"cp{short}", "abi3", "none") for word in ("--abi", abi)]
        command += [word for platform in PLATFORMS for word in ("--platform", f"{platform}_x86_64")]
        subprocess.run([*command, "--requirement", str(lock), "--dest", str(part)], check=True)
        part.rename(folder)
    return folder
