"""Sign-in, sign-out and password change. Django changes the session's key at sign-in and empties it at sign-out."""

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


def with_retry_after(answer: HttpResponse, seconds: int) -> HttpResponse:
    """Make a response a 429 with Retry-After if there were too many attempts (`seconds` is not 0); return it."""
    if seconds:
        answer.status_code = 429
        answer.headers["Retry-After"] = str(seconds)
    return answer


class SignIn(LoginView):
    """The only sign-in page: the administration's leads here too, so that one throttle covers all attempts."""

    template_name = "accounts/login.html"
    authentication_form = SignInForm

    def form_valid(self, form: Any) -> HttpResponse:
        response = super().form_valid(form)
        known_browsers.remember(self.request, response, form.cleaned_data["username"])
        return response

    def form_invalid(self, form: Any) -> HttpResponse:
        return with_retry_after(super().form_invalid(form), form.retry_after)


class ChangePassword(PasswordChangeView):
    """Password change. Sessions are bound to the password, so the user's other sessions end."""

    template_name = "accounts/password.html"
    form_class = PasswordForm
    success_url = reverse_lazy("accounts:password-changed")

    def form_invalid(self, form: Any) -> HttpResponse:
        return with_retry_after(super().form_invalid(form), form.retry_after)


class PasswordChanged(PasswordChangeDoneView):
    template_name = "accounts/password_changed.html"


class SignOut(LogoutView):
    """Sign-out, by POST only: a link in somebody's message must not sign anybody out."""


def admin_sign_in(request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
    """Redirect to the sign-in page. Replaces `admin.site.login`."""
    return redirect_to_login(request.GET.get("next") or reverse("admin:index"))


def admin_password_change(request: HttpRequest, extra_context: dict[str, object] | None = None) -> HttpResponse:
    """Redirect to the password page. Replaces `admin.site.password_change`."""
    return redirect("accounts:password")
