"""Signing in and out. Signing in gives the session a new key, signing out empties it: both are Django's own."""

from django.contrib.auth.views import LoginView, LogoutView, redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.urls import reverse


class SignIn(LoginView):
    """The only door: the administration's own sign-in leads here too, so that one throttle watches over all."""

    template_name = "accounts/login.html"


class SignOut(LogoutView):
    """By POST only: a link in somebody's message must not sign anybody out."""


def admin_sign_in(request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
    """Stands in for `admin.site.login`."""
    return redirect_to_login(request.GET.get("next") or reverse("admin:index"))
