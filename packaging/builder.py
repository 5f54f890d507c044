"""The containers that packages are built in: a release with build tools, and with the libraries of its lock file."""

from containers import PACKAGING, Release, with_libraries, with_packages

BUILD_TOOLS = ("build-essential", "debhelper", "fakeroot", "lintian", "python3-pip")


def builder_image(release: Release) -> str:
    """The image that a release's package is built in; made when it or what it is made from is new."""
    tools = with_packages("build-tools", release, BUILD_TOOLS)
    return with_libraries("builder", release, tools, release.lock, PACKAGING / "libraries.sh")
