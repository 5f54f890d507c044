"""The command line of the node tool."""

import argparse
import signal
import sys
from pathlib import Path

from . import cluster, machine
from .image import RELEASES, ensure_image
from .names import container_name
from .plan import from_arguments, from_file
from .podman import execute
from .run import NodeError


def main(arguments: list[str] | None = None) -> int:
    """Run one verb. An error is written to stderr as one readable text, with exit code 1."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after Ctrl-C
    try:
        if options.verb == "check":
            machine.refuse_unless_able()
        else:
            machine.prepare()
        return _run(options)
    except NodeError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; nothing is left behind", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    match options.verb:
        case "check":
            print("This machine can make nodes.")
        case "image":
            for release in options.release or RELEASES:
                print(ensure_image(release))
        case "up":
            plan = from_file(options.cluster, options.file) if options.file else None
            cluster.up(plan or from_arguments(options.cluster, options.node), options.volume)
        case "down":
            for name in options.cluster:
                cluster.down(name)
        case "exec":
            name = container_name(options.cluster, options.node)
            return execute(name, options.command, tty=sys.stdin.isatty())
        case "restart":
            cluster.restart(options.cluster, options.node, power_cut=options.power_cut)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="node", description="Debian nodes in containers, for tests, builds and the demo."
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("check", help="say whether this machine can make nodes, or why not")
    image = verbs.add_parser("image", help="make the images of the given releases (all if none is given)")
    image.add_argument("release", nargs="*")
    up = verbs.add_parser("up", help="start a cluster")
    up.add_argument("cluster")
    up.add_argument("--node", action="append", default=[], metavar="NAME:RELEASE[:GROUP,...]")
    up.add_argument("--file", type=Path, help="a plan in TOML, instead of --node")
    up.add_argument("--volume", action="append", default=[], metavar="FOLDER:PATH[:ro]", help="mount into every node")
    down = verbs.add_parser("down", help="remove clusters with all that belongs to them")
    down.add_argument("cluster", nargs="+")
    execute_ = verbs.add_parser("exec", help="run a command on a node as root")
    execute_.add_argument("cluster")
    execute_.add_argument("node")
    execute_.add_argument("command", nargs=argparse.REMAINDER)
    restart = verbs.add_parser("restart", help="reboot a node")
    restart.add_argument("cluster")
    restart.add_argument("node")
    restart.add_argument("--power-cut", action="store_true", help="without an orderly shutdown")
    return parser
