"""Root URL configuration."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.generic import RedirectView


def health(request: HttpRequest) -> HttpResponse:
    """Answer that this process serves. Asks no other server: a load balancer must not lose all nodes with one database.

    With ?seen, add the client's address and the scheme as this process sees them, for `channelbox doctor` to compare.
    """
    seen = f"{request.META.get('REMOTE_ADDR') or 'nobody'} {request.scheme}\n" if "seen" in request.GET else ""
    return HttpResponse(f"ok\n{seen}", content_type="text/plain")


urlpatterns = [
    path("", RedirectView.as_view(pattern_name="chat:rooms"), name="home"),
    path("chat/", include("channelbox.chat.urls")),
    path("chat/dashboard/", include("channelbox.dashboard.urls")),
    path("accounts/", include("channelbox.accounts.urls")),
    path("admin/", admin.site.urls),
    path("healthz", health),
]
