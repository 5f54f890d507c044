"""Mailboxes of consumers: bounded, in order, and without loss when a receive is cancelled."""

import asyncio
import collections
import gc
import weakref

import msgpack
from hypothesis import given
from hypothesis import strategies as st

from channelbox.realtime.counters import counters
from channelbox.realtime.mailbox import ChannelName, Mailbox, copy_message

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(values)
def test_a_copied_message_is_equal_and_shares_no_mutable_state(value: object) -> None:
    copy = copy_message(value)
    assert copy == value
    if isinstance(value, dict | list):
        before = msgpack.packb(value)
        copy.clear()
        assert msgpack.packb(value) == before


@given(st.lists(st.sampled_from(["put", "send", "get", "get and cancel", "turn"]), max_size=60), st.integers(1, 4))
def test_a_mailbox_behaves_as_a_bounded_queue(steps: list[str], capacity: int) -> None:
    async def run() -> None:
        left: list[str] = []
        mailbox = Mailbox("c", capacity, 60, left.append)
        model: collections.deque[int] = collections.deque()
        getting: list[asyncio.Task[int]] = []
        got: list[int] = []
        dropped = counters.dropped
        refused = sent = 0
        for number, step in enumerate(steps):
            if step == "put":
                # Tasks that were woken have not taken their messages yet, so these still count.
                if len(model) - len(got) >= capacity:
                    refused += 1
                else:
                    model.append(number)
                mailbox.put(number)
            elif step == "send":
                sent += 1
                model.append(number)
                mailbox.put(number, sent=True)
            elif step == "get":
                getting.append(asyncio.create_task(mailbox.get()))
            elif step == "get and cancel":
                task = asyncio.create_task(mailbox.get())
                getting.append(task)
                await asyncio.sleep(0)
                task.cancel()
            if step == "turn" or step.startswith("get"):
                for _ in range(3):
                    await asyncio.sleep(0)
            got = [task.result() for task in getting if task.done() and not task.cancelled()]
        for _ in range(3):
            await asyncio.sleep(0)
        waiting = [task for task in getting if not task.done()]
        got = [task.result() for task in getting if task.done() and not task.cancelled()]
        rest: list[int] = []
        if not waiting:
            while len(got) + len(rest) < len(model):
                rest.append(await asyncio.wait_for(mailbox.get(), 1))
        assert sorted(got + rest) == list(model)
        assert got == sorted(got)
        assert counters.dropped - dropped == refused
        assert len(left) == sent
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(run())


async def test_a_message_for_a_cancelled_receiver_goes_to_the_next() -> None:
    mailbox = Mailbox("c", 10, 60, lambda channel: None)
    first, second = (asyncio.create_task(mailbox.get()) for _ in range(2))
    await asyncio.sleep(0)
    mailbox.put("kept")
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "kept"
    assert (await asyncio.gather(first, return_exceptions=True))[0].__class__ is asyncio.CancelledError


def test_str_of_a_channel_name_returns_the_same_object() -> None:
    name = ChannelName("specific.x!y")
    gone = weakref.ref(name)
    assert str(name) is name
    other = "".join(name)
    del name
    gc.collect()
    assert gone() is None
    assert other == "specific.x!y"
