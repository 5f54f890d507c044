"""The ASGI application: HTTP, WebSockets, worker channels and the lifespan."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "channelbox.settings")
django.setup()

from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402
from django.core.handlers.asgi import ASGIHandler  # noqa: E402

from channelbox import routing  # noqa: E402
from channelbox.accounts.socket_auth import SocketAuth  # noqa: E402
from channelbox.http_admission import HttpAdmission  # noqa: E402
from channelbox.lifespan import lifespan  # noqa: E402
from channelbox.realtime.join_admission import JoinAdmission  # noqa: E402
from channelbox.realtime.origin_check import OriginCheck  # noqa: E402
from channelbox.staticfiles import StaticFiles  # noqa: E402

pages = HttpAdmission(ASGIHandler())

application = ProtocolTypeRouter(
    {
        # nginx serves the static files of an installation; `make run` has no nginx.
        "http": StaticFiles(pages) if settings.CHANNELBOX_SERVE_STATIC else pages,  # type: ignore[arg-type]
        "websocket": OriginCheck(JoinAdmission(SocketAuth(URLRouter(routing.websockets)))),
        "channel": ChannelNameRouter(routing.workers),
        "lifespan": lifespan,
    }
)
