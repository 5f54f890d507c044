"""`runworker`: the command of Channels with channelbox's own worker."""

import pytest
from channels.management.commands.runworker import Command as ChannelsCommand
from django.core.management import CommandError, call_command, load_command_class

from channelbox.chat.ingest import INGEST_CHANNEL
from channelbox.work.worker import Worker


def test_runworker_is_the_channels_command_with_our_worker() -> None:
    command = load_command_class("channelbox.work", "runworker")
    assert isinstance(command, ChannelsCommand)
    assert command.worker_class is Worker


def test_runworker_uses_the_work_layer_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Worker] = []
    monkeypatch.setattr(Worker, "run", lambda worker: started.append(worker))
    call_command("runworker", INGEST_CHANNEL)
    assert started[0].channels == [INGEST_CHANNEL]


def test_an_error_about_an_unknown_channel_lists_the_known_ones() -> None:
    with pytest.raises(CommandError, match=rf"'chat.injest'.*{INGEST_CHANNEL}"):
        call_command("runworker", "chat.injest")


def test_a_layer_other_than_a_queue_is_refused_with_a_remedy() -> None:
    with pytest.raises(CommandError, match="Use --layer work"):
        call_command("runworker", INGEST_CHANNEL, layer="default")
