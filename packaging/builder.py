"""Container images for building packages: a Debian release with build tools and the libraries of its lock file."""

from containers import PACKAGING, Release, with_libraries, with_packages

BUILD_TOOLS = ("build-essential", "debhelper", "fakeroot", "lintian", "python3-pip")


def builder_image(release: Release) -> str:
    """Return the image for building a release's package. It is built if missing, or if an ingredient has changed."""
    tools = with_packages("build-tools", release, BUILD_TOOLS)
    return with_libraries("builder", release, tools, release.lock, PACKAGING / "libraries.sh")
