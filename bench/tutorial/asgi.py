"""The ASGI application of the tutorial: its consumer behind its middleware."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "bench.tutorial.settings")
django.setup()

from channels.auth import AuthMiddlewareStack  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from channels.security.websocket import AllowedHostsOriginValidator  # noqa: E402
from django.urls import re_path  # noqa: E402
from tests.realtime.tutorial import AsyncChat  # noqa: E402

rooms = URLRouter([re_path(r"ws/chat/(?P<room_name>[\w-]+)/$", AsyncChat.as_asgi())])
application = ProtocolTypeRouter({"websocket": AllowedHostsOriginValidator(AuthMiddlewareStack(rooms))})
