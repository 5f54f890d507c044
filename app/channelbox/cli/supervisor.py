"""Supervision of one process of a local installation: start, readiness, restart when it dies, and stop."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from channelbox.cli.errors import CliError

Tell = Callable[[str, str], None]  # name of the process, a line of its output

READY_SECONDS = 60.0  # for a start that does not ask for more; as TimeoutStartSec=
STOP_SECONDS = 20.0
PAUSE_SECONDS = 1.0  # before a process that died is started again; as RestartSec=


class SupervisedProcess:
    """A process that is kept running, like a unit with Type=notify and Restart=always.

    It ends with this process, even if this one is killed. Its output goes to `tell`, line by line.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        environment: Mapping[str, str],
        tell: Tell,
        runtime: Path,
        descriptors: Sequence[int] = (),
    ) -> None:
        """Prepare the process. `environment` is all that it gets, besides NOTIFY_SOCKET.

        `runtime`: a folder with a short path, for the socket on which the process reports that it is ready.
        `descriptors`: file descriptors that it inherits.
        """
        self.name = name
        self.command = command
        self.environment = {**environment, "NOTIFY_SOCKET": str(runtime / f"{name}.notify")}
        self.descriptors = descriptors
        self.process: asyncio.subprocess.Process | None = None
        self.ready = asyncio.Event()
        self._tell = tell
        self._keep_running = False
        self._was_ready = False
        self._ready_by = 0.0  # time.monotonic()
        self._keeper: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process; return when it is ready. Raises CliError if it ends first or takes more than a minute.

        As with systemd, a process that makes progress may take longer (EXTEND_TIMEOUT_USEC).
        """
        self._keep_running = True
        self._ready_by = time.monotonic() + READY_SECONDS
        self._keeper = asyncio.create_task(self._keep())
        ready = asyncio.create_task(self.ready.wait())
        try:
            done: set[asyncio.Task[Any]] = set()
            while not done and (left := self._ready_by - time.monotonic()) > 0:
                done, _ = await asyncio.wait([ready, self._keeper], timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                self._keep_running = False
                raise CliError(
                    f"{self.name} did not become ready.",
                    "Its output is above; that of Redis is in redis.log in the data folder.",
                )
        finally:
            ready.cancel()

    async def stop(self) -> int | None:
        """Stop the process for good, with SIGKILL if it takes more than 20 s. Return its exit status."""
        self._keep_running = False
        if self._keeper is None:
            return None
        process = self.process
        if process is not None and process.returncode is None:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                self._tell(self.name, f"did not stop within {STOP_SECONDS:.0f} s, killed")
                self.signal(signal.SIGKILL)
                await process.wait()
        # The task ends by itself when it has passed on the last output.
        await asyncio.wait([self._keeper], timeout=2 * PAUSE_SECONDS)
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)
        self._keeper = None
        return process.returncode if process is not None else None

    @property
    def pid(self) -> int | None:
        """The process's id; None when it does not run."""
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    def kill_for_good(self) -> None:
        """Kill the process at once; it is not started again."""
        self._keep_running = False
        self.signal(signal.SIGKILL)

    def signal(self, number: int) -> None:
        """Send a signal to the process, if it runs. After SIGKILL it is not ready until it has been started again."""
        if number == signal.SIGKILL:
            self.ready.clear()
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(number)

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        address = self.environment["NOTIFY_SOCKET"]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as notifications:
            notifications.bind(address)
            loop.add_reader(notifications, self._on_notification, notifications)
            try:
                await self._run()
            finally:
                loop.remove_reader(notifications)
                os.unlink(address)  # noqa: PTH108 - a socket's name
                self.ready.clear()
                self._was_ready = False

    async def _run(self) -> None:
        while self._keep_running:
            began = time.monotonic()
            self.process = await asyncio.create_subprocess_exec(
                # The kernel ends it with its parent. It has a session of its own, so that Ctrl-C reaches only the
                # parent, which stops its children in the right order.
                "setpriv",
                "--pdeathsig",
                "TERM",
                "--",
                *self.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=self.environment,
                pass_fds=self.descriptors,
                start_new_session=True,
            )
            try:
                await self._forward_output(self.process)
                status = await self.process.wait()
            except asyncio.CancelledError:
                self.signal(signal.SIGKILL)
                raise
            if not self._was_ready:
                return
            self.ready.clear()
            if self._keep_running:
                self._tell(self.name, f"ended with {describe(status)}, restarting")
                await asyncio.sleep(max(0.0, PAUSE_SECONDS - (time.monotonic() - began)))

    async def _forward_output(self, process: asyncio.subprocess.Process) -> None:
        rest = b""
        while process.stdout is not None and (chunk := await process.stdout.read(65_536)):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._tell(self.name, line.decode(errors="replace"))
        if rest:
            self._tell(self.name, rest.decode(errors="replace"))

    def _on_notification(self, notifications: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            for line in notifications.recv(4096).split(b"\n"):
                name, _, value = line.partition(b"=")
                if line == b"READY=1":
                    self._was_ready = True
                    self.ready.set()
                elif name == b"EXTEND_TIMEOUT_USEC":
                    self._ready_by = max(self._ready_by, time.monotonic() + int(value) / 1_000_000)


def describe(status: int) -> str:
    """Return an exit status as text for people."""
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name


async def run_once(command: Sequence[str | Path], environment: Mapping[str, str]) -> tuple[int, str]:
    """Run a command to its end. Return its exit status and its output, errors included."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        raise
    return process.returncode or 0, output.decode(errors="replace")
