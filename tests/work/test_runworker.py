"""`runworker`: Channels' command, with our worker."""

import pytest
from channels.management.commands.runworker import Command as ChannelsCommand
from django.core.management import CommandError, call_command, load_command_class

from channelbox.chat.ingest import INGEST_CHANNEL
from channelbox.work.worker import Worker


def test_it_is_channels_own_command_with_another_worker() -> None:
    command = load_command_class("channelbox.work", "runworker")
    assert isinstance(command, ChannelsCommand)
    assert command.worker_class is Worker


def test_the_queue_is_the_layer_unless_another_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Worker] = []
    monkeypatch.setattr(Worker, "run", lambda worker: started.append(worker))
    call_command("runworker", INGEST_CHANNEL)
    assert started[0].channels == [INGEST_CHANNEL]


def test_a_channel_that_no_consumer_works_on_is_named_with_those_that_have_one() -> None:
    with pytest.raises(CommandError, match=rf"'chat.injest'.*{INGEST_CHANNEL}"):
        call_command("runworker", "chat.injest")


def test_a_layer_that_is_no_queue_is_refused_with_the_remedy() -> None:
    with pytest.raises(CommandError, match="Use --layer work"):
        call_command("runworker", INGEST_CHANNEL, layer="default")
