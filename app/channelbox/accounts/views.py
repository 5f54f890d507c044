"""Signing in and out. Signing in gives the session a new key, signing out empties it: both are Django's own."""

from typing import Any

from django.contrib.auth.views import LoginView, LogoutView, redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from channelbox.accounts.forms import SignInForm


class SignIn(LoginView):
    """The only door: the administration's own sign-in leads here too, so that one throttle watches over all."""

    template_name = "accounts/login.html"
    authentication_form = SignInForm

    def form_invalid(self, form: Any) -> HttpResponse:
        answer = super().form_invalid(form)
        if form.retry_after:
            answer.status_code = 429
            answer.headers["Retry-After"] = str(form.retry_after)
        return answer


class SignOut(LogoutView):
    """By POST only: a link in somebody's message must not sign anybody out."""


def admin_sign_in(request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
    """Stands in for `admin.site.login`."""
    return redirect_to_login(request.GET.get("next") or reverse("admin:index"))
