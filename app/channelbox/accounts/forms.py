"""Forms for signing in and for changing the password."""

import logging
import threading
from typing import Any

from django.contrib.auth.forms import AuthenticationForm, PasswordChangeForm
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from channelbox.accounts import known_browsers, throttle

logger = logging.getLogger(__name__)

# Argon2 takes memory and a core by design: so many hash at once in a process, and others wait their turn.
HASHING_SLOTS = threading.BoundedSemaphore(4)


class SignInForm(AuthenticationForm):
    """Name and password, throttled. `retry_after`: the seconds to wait if it was refused for that, else 0.

    A wrong name, a wrong password and an account without access get the same message after the same time.
    """

    error_messages = {
        **AuthenticationForm.error_messages,
        "invalid_login": _("Incorrect name or password. Both are case-sensitive."),
    }
    retry_after = 0

    def clean(self) -> dict[str, Any]:
        name, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if not name or not password:
            return self.cleaned_data
        address = self.request.META.get("REMOTE_ADDR", "") if self.request else ""
        browser = known_browsers.identifier(self.request, name) if self.request else None
        attempt = throttle.Attempt.of(address, name, browser)
        self.retry_after = throttle.take(attempt)
        if self.retry_after:
            logger.warning(
                "Sign-in refused for %d s: too many attempts from %s or with that name", self.retry_after, address
            )
            raise ValidationError(too_many(self.retry_after), code="throttled")
        try:
            with HASHING_SLOTS:
                cleaned = super().clean()
        except ValidationError:
            # Without the name, because people type passwords there.
            logger.info("Failed sign-in from %s", address)
            raise
        throttle.refund(attempt)
        logger.info("%s signed in from %s", self.get_user(), address)
        return cleaned


class PasswordForm(PasswordChangeForm):
    """A new password for a user who knows the old one, throttled like sign-in: the session may have been stolen."""

    retry_after = 0

    def clean_old_password(self) -> str:
        attempt = throttle.Attempt.reauthentication(self.user.pk)
        self.retry_after = throttle.take(attempt)
        if self.retry_after:
            raise ValidationError(too_many(self.retry_after), code="throttled")
        with HASHING_SLOTS:
            old = super().clean_old_password()
        throttle.refund(attempt)
        return old


def too_many(seconds: int) -> str:
    """Return the error message for somebody who has to wait."""
    if seconds < 60:
        return ngettext(
            "Too many attempts. Try again in %(count)d second.",
            "Too many attempts. Try again in %(count)d seconds.",
            seconds,
        ) % {"count": seconds}
    minutes = -(-seconds // 60)
    return ngettext(
        "Too many attempts. Try again in %(count)d minute.",
        "Too many attempts. Try again in %(count)d minutes.",
        minutes,
    ) % {"count": minutes}
