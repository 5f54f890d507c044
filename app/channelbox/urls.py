"""The pages."""

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django.views.generic import RedirectView


def health(request: HttpRequest) -> HttpResponse:
    """This process answers. It asks nobody else: a balancer must not lose all nodes with one database."""
    return HttpResponse("ok\n", content_type="text/plain")


urlpatterns = [
    path("", RedirectView.as_view(pattern_name="chat:rooms"), name="home"),
    path("chat/", include("channelbox.chat.urls")),
    path("chat/dashboard/", include("channelbox.dashboard.urls")),
    path("accounts/", include("channelbox.accounts.urls")),
    path("admin/", admin.site.urls),
    path("healthz", health),
]
