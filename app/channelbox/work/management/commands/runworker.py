"""Channels' `runworker` with a worker that fetches nothing ahead.

Example: `channelbox manage runworker --layer work chat.ingest`.
"""

from typing import Any

from channels.layers import get_channel_layer
from channels.management.commands.runworker import Command as ChannelsCommand
from channels.routing import get_default_application
from django.core.management import CommandError, CommandParser

from channelbox.work.queue import WorkLayer
from channelbox.work.worker import Worker, consumer_class


class Command(ChannelsCommand):
    help = "Processes the messages of worker channels until it is stopped."
    worker_class = Worker

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(layer="work")

    def handle(self, *args: Any, **options: Any) -> None:
        if not isinstance(get_channel_layer(options["layer"]), WorkLayer):
            raise CommandError(f"The channel layer {options['layer']!r} has no worker queues. Use --layer work.")
        application = get_default_application()
        try:
            for channel in options["channels"]:
                consumer_class(application, channel)
        except LookupError as error:
            raise CommandError(str(error)) from error
        super().handle(*args, **options)
