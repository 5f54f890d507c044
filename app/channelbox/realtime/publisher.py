"""Publishing to one Redis host: what is published while a command is in flight shares the next pipeline."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from redis.asyncio import ConnectionPool
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from channelbox.realtime.background_tasks import cancel, once

PUBLISH_SECONDS = 5.0
MAX_COMMANDS = 2000  # in one pipeline

Publish = tuple[str, bytes]
Command = tuple[str, *tuple[str | bytes, ...]]


class _Job(NamedTuple):
    """The commands of one caller, and a future for each reply."""

    commands: Sequence[Command]
    done: Sequence[asyncio.Future[Any]]


class Publisher:
    """Publishes over one connection at a time for any number of callers, in the order of their calls."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._jobs: list[_Job] = []
        self._task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopped = False

    def begin(self, publishes: Sequence[Publish]) -> list[asyncio.Future[int]]:
        """Publish each once, without waiting. Returns a future for each.

        A future gives how many connections received the publish. It raises RedisError within 5 s when the publish is
        not known to have happened.
        """
        return self.begin_commands([("PUBLISH", *publish) for publish in publishes])

    def begin_commands(self, commands: Sequence[Command]) -> list[asyncio.Future[Any]]:
        """Execute commands between the publishes, in the order of all calls. Returns a future for each reply."""
        loop = asyncio.get_running_loop()
        job = _Job(commands, [loop.create_future() for _ in commands])
        if self._stopped:
            _resolve([job], RedisConnectionError("The bus has been stopped"))
        elif commands:
            self._jobs.append(job)
            if self._task is None:
                self._task = once("publish", self._run(), self._tasks)
        return list(job.done)

    async def stop(self) -> None:
        """Stop publishing. What is not published by now raises in its callers."""
        self._stopped = True
        await cancel(self._task)

    async def _run(self) -> None:
        jobs: list[_Job] = []
        try:
            while self._jobs:
                jobs = self._next_jobs()
                answers = await self._execute(jobs)
                if isinstance(answers, RedisTimeoutError):  # the jobs behind these have waited as well
                    jobs, self._jobs = jobs + self._jobs, []
                _resolve(jobs, answers)
        finally:
            self._task = None
            _resolve([*jobs, *self._jobs], RedisConnectionError("The bus has been stopped"))
            self._jobs = []

    def _next_jobs(self) -> list[_Job]:
        taken = size = 0
        while taken < len(self._jobs) and (not taken or size + len(self._jobs[taken].commands) <= MAX_COMMANDS):
            size += len(self._jobs[taken].commands)
            taken += 1
        jobs, self._jobs = self._jobs[:taken], self._jobs[taken:]
        return jobs

    async def _execute(self, jobs: list[_Job]) -> list[Any] | Exception:
        commands = [command for job in jobs for command in job.commands]
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                return await self._round_trip(commands)
        except TimeoutError:
            return RedisTimeoutError(f"Redis did not answer a PUBLISH within {PUBLISH_SECONDS:g} s")
        except OSError as error:
            return RedisConnectionError(str(error))
        except Exception as error:  # whatever it is, the callers get it
            return error

    async def _round_trip(self, commands: Sequence[Command]) -> list[Any]:
        """Do what redis-py's pipeline does, without what it does for transactions: half of its cost."""
        connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            answers: list[Any] = []
            for _ in commands:
                try:
                    answers.append(await connection.read_response())
                except ResponseError as error:
                    answers.append(error)
            return answers
        finally:
            await self._pool.release(connection)


def _resolve(jobs: list[_Job], answers: list[Any] | Exception) -> None:
    futures = [future for job in jobs for future in job.done]
    each = itertools.repeat(answers, len(futures)) if isinstance(answers, Exception) else answers
    for future, answer in zip(futures, each, strict=True):
        if future.done():
            continue
        if isinstance(answer, Exception):
            future.set_exception(answer)
            future.exception()  # marks it as retrieved: nobody has to await it
        else:
            future.set_result(answer)
