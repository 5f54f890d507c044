"""No request fails and no message is lost when PostgreSQL ends its connections."""

import asyncio
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack

import psycopg
import pytest
from tests.integration.local import Installation
from tests.integration.sending import RESENT_SECONDS, local, sending
from tests.support.waiting import until

END_BACKENDS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def test_requests_succeed_after_database_connections_are_ended(local: Installation) -> None:
    if local.database_url.startswith("sqlite"):
        # This hides no failure: there is nothing to restart. The run on PostgreSQL has this test.
        pytest.skip("SQLite has no server that could be restarted")

    def page(_: int) -> int:
        with urllib.request.urlopen(f"{local.url}/chat/", timeout=10) as answer:
            return answer.status

    with ThreadPoolExecutor(16) as people:  # concurrently, so that every process has several connections in its pool
        list(people.map(page, range(64)))
    async with await psycopg.AsyncConnection.connect(local.database_url, autocommit=True) as connection:
        await connection.execute(END_BACKENDS)
    with ThreadPoolExecutor(4) as people:
        assert set(await asyncio.to_thread(lambda: list(people.map(page, range(64))))) == {200}
    async with await local.enter() as alice:
        await alice.say("hi")
        await alice.wait_for("hi", seconds=3)  # sending it again would take longer


async def test_messages_survive_database_connections_ended_every_second(local: Installation) -> None:
    """Messages being stored at that moment are sent again, after 3.5 s; all others are stored without delay."""
    if local.database_url.startswith("sqlite"):
        # This hides no failure: there are no backends. The run on PostgreSQL has this test.
        pytest.skip("SQLite has no server that could end a connection")
    async with AsyncExitStack() as stack:
        people = [await stack.enter_async_context(await local.enter(f"room{n}")) for n in range(6)]
        connection = await psycopg.AsyncConnection.connect(local.database_url, autocommit=True)
        await stack.enter_async_context(connection)

        async def more_received() -> None:
            enough = sum(len(person.texts) for person in people) + 12  # of 120 a second
            await until(lambda: sum(len(person.texts) for person in people) >= enough, RESENT_SECONDS)

        async def ended_while_it_stores() -> bool:
            return (await connection.execute(f"{END_BACKENDS} AND backend_xid IS NOT NULL")).rowcount > 0

        async with AsyncExitStack() as senders:
            sent = [await senders.enter_async_context(sending(person, 0.05)) for person in people]
            for _ in range(5):
                await connection.execute(END_BACKENDS)
                await asyncio.gather(more_received(), asyncio.sleep(1))
            await until(ended_while_it_stores)
            await connection.execute(END_BACKENDS)
        async with asyncio.timeout(RESENT_SECONDS):
            for person, texts in zip(people, sent, strict=True):
                await person.wait_for(*texts, seconds=RESENT_SECONDS)
        for person, texts in zip(people, sent, strict=True):
            assert person.texts == texts
            person.check_sequence()
            assert person.errors == []
        stored = await connection.execute("SELECT array_agg(text ORDER BY seq) FROM chat_event GROUP BY room_id")
        assert sorted(texts for (texts,) in await stored.fetchall()) == sorted(sent)
