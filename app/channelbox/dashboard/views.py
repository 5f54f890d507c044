"""The dashboard's page."""

from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from channelbox.dashboard import ui_strings
from channelbox.dashboard.access import may_view, requires_sign_in
from channelbox.version import package_version

# The scripts use `figure` and `name` too: static/dashboard/tiles.js and charts.js.
TILES = (
    {"figure": "connections", "title": _("Connections")},
    {"figure": "rooms", "title": _("Rooms in use")},
    {"figure": "messages_per_s", "title": _("Messages/s")},
    {"figure": "store_p50_ms", "title": _("Time to store"), "unit": "ms (p50)"},
    {"figure": "queue", "title": _("Queue")},
)
CHARTS = (
    {"name": "connections", "title": _("Connections, by node")},
    {"name": "messages", "title": _("Messages/s, 10 s mean, by node")},
    {"name": "delivered", "title": _("Delivered/s, 10 s mean, by node")},
    {"name": "store", "title": _("Time to store, ms")},
    {"name": "queue", "title": _("Queue, batches of messages")},
    {"name": "lag", "title": _("Event loop lag, ms, 10 s maximum, by node")},
)


@never_cache
@require_safe
def live(request: HttpRequest) -> HttpResponseBase:
    """Show the dashboard; its figures come over a WebSocket. `?wall`: the version for a wall screen."""
    if requires_sign_in(request.user):
        return redirect_to_login(request.get_full_path())
    if not may_view(request.user):
        raise PermissionDenied
    page = {
        "socket": "/ws/dashboard/",
        "login": f"{reverse(settings.LOGIN_URL)}?{urlencode({'next': request.get_full_path()})}",
        "version": package_version(),  # the scripts notice when another version answers
        "words": ui_strings.catalogue(),
    }
    context = {"page": page, "wall": "wall" in request.GET, "tiles": TILES, "charts": CHARTS}
    return render(request, "dashboard/live.html", context)
