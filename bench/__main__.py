"""`make bench`, or `python -m bench --help`: runs the comparison, and writes build/bench.json and build/bench.html."""

import argparse
import contextlib
import dataclasses
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from tests.support.servers import RedisServer, free_port

from bench import machine, plan, report
from bench.figures import summed_up
from bench.generator import HOST
from bench.measuring import Measuring
from bench.peers import channelbox, channelbox_nginx, nchan, tutorial
from bench.peers.peer import Peer
from bench.workspace import workspace

ROOT = Path(__file__).resolve().parent.parent
SERVERS = ("channelbox", "channelbox-nginx-tls", "tutorial", "tutorial-pubsub", "nchan", "nchan-redis")


def peers(folder: Path, redis: str, people: int) -> dict[str, Callable[[], Peer]]:
    """Return a factory for each server, by name. The servers are not started."""
    return {
        "channelbox": lambda: channelbox.Channelbox(folder / "channelbox", people),
        "channelbox-nginx-tls": lambda: channelbox_nginx.ChannelboxNginx(folder / "nginx", people),
        "tutorial": lambda: tutorial.Tutorial("tutorial", folder / "tutorial", redis, people),
        "tutorial-pubsub": lambda: tutorial.Tutorial("tutorial-pubsub", folder / "tutorial-pubsub", redis, people),
        "nchan": lambda: nchan.Nchan("nchan", folder / "nchan"),
        "nchan-redis": lambda: nchan.Nchan("nchan-redis", folder / "nchan-redis", redis),
    }


async def bench(chosen: plan.Plan, servers: set[str], folder: Path, console: Console) -> Measuring:
    """Start the servers, measure them, and stop them in any case."""
    port = free_port()
    redis = RedisServer(folder / "redis", port=port)
    makers = peers(folder, f"redis://{HOST}:{port}", chosen.people)
    wanted = [make() for name, make in makers.items() if name in servers]
    measuring = Measuring(wanted, console)
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(redis.stop)
        redis.start()
        for peer in wanted:
            console.print(f"starting {peer.name}")
            stack.push_async_callback(peer.stop)
            await peer.start()
        await measuring.run(chosen)
    return measuring


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="channelbox beside its peers.")
    parser.add_argument("--quick", action="store_true", help="what fits into five minutes")
    parser.add_argument("--servers", default=",".join(SERVERS), help="some of them (default: %(default)s)")
    parser.add_argument("--sizes", default="", help="only these crowds, as 200,1000")
    parser.add_argument("--to", type=Path, default=ROOT / "build", help="folder of bench.json and bench.html")
    options = parser.parse_args()
    servers = set(options.servers.split(","))
    if unknown := servers - set(SERVERS):
        parser.error(f"no such server: {', '.join(sorted(unknown))}")
    chosen = plan.QUICK if options.quick else plan.FULL
    if options.sizes:
        sizes = {int(size) for size in options.sizes.split(",")}
        visits = tuple(visit for visit in chosen.visits if visit.size in sizes)
        chosen = dataclasses.replace(chosen, visits=visits, storing_rounds=0, holding=())

    console = report.console()
    this = machine.describe(quick=options.quick)
    with workspace("bench") as (folder, runner):
        measuring = runner.run(bench(chosen, servers, folder, console))
    figures = summed_up(measuring.samples)
    options.to.mkdir(parents=True, exist_ok=True)
    report.write(options.to, this, figures, measuring.notes)
    report.show(console, figures, measuring.notes)
    console.print(f"\n{options.to / 'bench.json'}, {options.to / 'bench.html'}")


if __name__ == "__main__":
    main()
