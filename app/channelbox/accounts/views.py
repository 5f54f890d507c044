"""Signing in and out, and the password. Django gives the session a new key at sign-in and empties it at sign-out."""

from typing import Any

from django.contrib.auth.views import (
    LoginView,
    LogoutView,
    PasswordChangeDoneView,
    PasswordChangeView,
    redirect_to_login,
)
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse, reverse_lazy

from channelbox.accounts import known_browsers
from channelbox.accounts.forms import PasswordForm, SignInForm


def told_to_wait(answer: HttpResponse, seconds: int) -> HttpResponse:
    """A page that refuses, with what HTTP has for it if it was for too many attempts."""
    if seconds:
        answer.status_code = 429
        answer.headers["Retry-After"] = str(seconds)
    return answer


class SignIn(LoginView):
    """The only door: the administration's own sign-in leads here too, so that one throttle watches over all."""

    template_name = "accounts/login.html"
    authentication_form = SignInForm

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        known_browsers.remember(self.request, response, form.cleaned_data["username"])
        return response

    def form_invalid(self, form: Any) -> HttpResponse:
        return told_to_wait(super().form_invalid(form), form.retry_after)


class ChangePassword(PasswordChangeView):
    """Whoever has it signed in elsewhere is signed out there: sessions are bound to the password."""

    template_name = "accounts/password.html"
    form_class = PasswordForm
    success_url = reverse_lazy("accounts:password-changed")

    def form_invalid(self, form: Any) -> HttpResponse:
        return told_to_wait(super().form_invalid(form), form.retry_after)


class PasswordChanged(PasswordChangeDoneView):
    template_name = "accounts/password_changed.html"


class SignOut(LogoutView):
    """By POST only: a link in somebody's message must not sign anybody out."""


def admin_sign_in(request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
    """Stands in for `admin.site.login`."""
    return redirect_to_login(request.GET.get("next") or reverse("admin:index"))


def admin_password_change(request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
    """Stands in for `admin.site.password_change`."""
    return redirect("accounts:password")
