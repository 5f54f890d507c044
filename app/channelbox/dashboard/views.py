"""The dashboard's page."""

from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from channelbox.dashboard import words


@never_cache
@require_safe
def live(request: HttpRequest) -> HttpResponseBase:
    """What runs where and how it is doing. The socket brings the figures; `?wall` is the page for a wall screen."""
    if not (request.user.is_authenticated or settings.CHANNELBOX_GUESTS):
        return redirect_to_login(request.get_full_path())
    page = {
        "socket": "/ws/dashboard/",
        "login": f"{reverse(settings.LOGIN_URL)}?next={request.path}",
        "words": words.catalogue(),
    }
    return render(request, "dashboard/live.html", {"page": page, "wall": "wall" in request.GET})
