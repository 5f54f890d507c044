"""`channelbox run`: it stops its processes, finds a free port and keeps the password."""

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.support.waiting import until

from channelbox.cli.supervisor import SupervisedProcess


def children_of(output: str) -> list[int]:
    line = re.search(r"^Processes: (.*)$", output, re.MULTILINE)
    assert line is not None, output
    return [int(pid) for pid in re.findall(r" (\d+)(?:,|$)", line[1])]


@asynccontextmanager
async def channelbox_run(folder: Path, *options: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """Start the command, and yield its process and its output up to the list of processes."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "channelbox.cli.main",
        "run",
        "--data-dir",
        str(folder),
        *options,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={name: value for name, value in os.environ.items() if not name.startswith("CHANNELBOX_")},
    )
    assert process.stdout is not None
    output = ""
    try:
        async with asyncio.timeout(60):
            while "Ctrl-C stops" not in output:
                line = await process.stdout.readline()
                assert line, output
                output += line.decode()
        yield process, output
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_run_stops_its_processes_on_sigint_and_sigterm(number: int, tmp_path: Path) -> None:
    async with channelbox_run(tmp_path, "--workers", "2") as (process, output):
        pids = children_of(output)
        assert len(alive(pids)) == 1 + 2 + 2
        process.send_signal(number)
        rest, _ = await asyncio.wait_for(process.communicate(), 20)
        assert rest.decode().rstrip().endswith("Everything has stopped.")
        assert process.returncode == 0
        assert alive(pids) == []


async def test_killing_run_leaves_no_processes(tmp_path: Path) -> None:
    async with channelbox_run(tmp_path) as (process, output):
        process.kill()
        await until(lambda: not alive(children_of(output)), 20)


async def test_run_uses_another_port_if_taken_and_keeps_the_password(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        async with channelbox_run(tmp_path, "--port", str(port)) as (process, output):
            assert f"Port {port} is in use" in output
            password = re.search(r"Password: (\S+)", output)
            process.send_signal(signal.SIGINT)
            await process.communicate()
    async with channelbox_run(tmp_path, "--port", str(port)) as (process, output):
        assert password is not None
        assert f"Password: {password[1]}" in output
        other = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "channelbox.cli.main", "run", "--data-dir", str(tmp_path)),
            stderr=asyncio.subprocess.PIPE,
        )
        _, error = await asyncio.wait_for(other.communicate(), 20)
        assert other.returncode == 1
        assert b"Another `channelbox run` is using" in error
        process.send_signal(signal.SIGINT)


async def test_a_process_that_exits_before_it_is_ready_is_an_error(tmp_path: Path) -> None:
    lines: list[str] = []
    child = SupervisedProcess(
        "web@1", ["sh", "-c", "echo no good; exit 3"], dict(os.environ), lambda _, line: lines.append(line), tmp_path
    )
    with pytest.raises(Exception, match="web@1 did not become ready"):
        await child.start()
    assert await child.stop() == 3
    assert lines == ["no good"]
