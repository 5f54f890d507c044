"""`make test-trixie`: runs the application's tests with the Python, PostgreSQL, Redis and nginx of Debian 13.

The tests run in a container without a network, from a read-only checkout. Arguments are passed to pytest.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "packaging"))
from containers import RELEASES, with_libraries, with_packages  # noqa: E402
from nodes.machine import podman_environment, prepare  # noqa: E402
from nodes.run import NodeError  # noqa: E402

PACKAGES = ("redis-server", "postgresql", "nginx-light", "nodejs", "faketime", "openssl", "python3-pip", "python3-venv")
RELEASE = next(release for release in RELEASES if release.codename == "trixie")


def main() -> int:
    try:
        prepare()
        servers = with_packages("servers", RELEASE, PACKAGES)
        image = with_libraries(
            "tests", RELEASE, servers, RELEASE.dev_lock, ROOT / "scripts" / "install_test_libraries.sh"
        )
    except (NodeError, subprocess.CalledProcessError) as error:
        print(error, file=sys.stderr)
        return 1
    # A shell is the first process, because it reaps orphaned processes as init does.
    words = "--ignore tests/browser --ignore tests/faults/test_broken.py -p no:cacheprovider"
    tests = f'PYTHONPATH=app /opt/tests/bin/python -B -m pytest {words} "$@"; exit $?'
    command = ["podman", "run", "--rm", "--network=none", "--volume", f"{ROOT}:/channelbox:ro", "--workdir=/channelbox"]
    return subprocess.run(
        [*command, image, "bash", "-c", tests, "tests", *sys.argv[1:]], env=podman_environment()
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
