"""No request fails and nothing is lost when PostgreSQL restarts or ends its backends."""

import asyncio
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import psycopg
import pytest
from tests.integration.local import Installation
from tests.integration.talking import RESENT_SECONDS, local, talking
from tests.support.waiting import until

END_BACKENDS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def test_a_restarted_database_fails_no_request(local: Installation) -> None:
    if local.database_url.startswith("sqlite"):
        # Not a failure that is hidden: there is nothing to restart. The run on PostgreSQL has this test.
        pytest.skip("SQLite has no server that could be restarted")

    def page(_: int) -> int:
        with urllib.request.urlopen(f"{local.url}/chat/", timeout=10) as answer:
            return answer.status

    with ThreadPoolExecutor(16) as people:  # at once: every process has several connections in its pool then
        list(people.map(page, range(64)))
    async with await psycopg.AsyncConnection.connect(local.database_url, autocommit=True) as connection:
        await connection.execute(END_BACKENDS)
    with ThreadPoolExecutor(4) as people:
        assert set(await asyncio.to_thread(lambda: list(people.map(page, range(64))))) == {200}
    async with await local.enter() as alice:
        await alice.say("hi")
        await alice.hears("hi", seconds=3)  # a second attempt would come later


async def test_people_talk_while_the_backends_of_the_database_are_ended_every_second(local: Installation) -> None:
    """What is being stored just then is sent again, after 3.5 s; everything else goes on at once."""
    if local.database_url.startswith("sqlite"):
        # Not a failure that is hidden: there are no backends. The run on PostgreSQL has this test.
        pytest.skip("SQLite has no server that could end a connection")
    async with AsyncExitStack() as stack:
        people = [await stack.enter_async_context(await local.enter(f"room{n}")) for n in range(6)]
        connection = await psycopg.AsyncConnection.connect(local.database_url, autocommit=True)
        await stack.enter_async_context(connection)

        async def some_more() -> None:
            enough = sum(len(person.heard) for person in people) + 12  # of 120 in a second
            await until(lambda: sum(len(person.heard) for person in people) >= enough, RESENT_SECONDS)

        async def ended_while_it_stores() -> bool:
            return (await connection.execute(f"{END_BACKENDS} AND backend_xid IS NOT NULL")).rowcount > 0

        async with AsyncExitStack() as talks:
            said = [await talks.enter_async_context(talking(person, 0.05)) for person in people]
            for _ in range(5):
                await connection.execute(END_BACKENDS)
                await asyncio.gather(some_more(), asyncio.sleep(1))
            await until(ended_while_it_stores)
            await connection.execute(END_BACKENDS)
        async with asyncio.timeout(RESENT_SECONDS):
            for person, texts in zip(people, said, strict=True):
                await person.hears(*texts, seconds=RESENT_SECONDS)
        for person, texts in zip(people, said, strict=True):
            assert person.heard == texts
            person.check_sequence()
            assert person.errors == []
        stored = await connection.execute("SELECT array_agg(text ORDER BY seq) FROM chat_event GROUP BY room_id")
        assert sorted(texts for (texts,) in await stored.fetchall()) == sorted(said)
