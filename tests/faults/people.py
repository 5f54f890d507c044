"""People who come without an account."""

import ssl
import urllib.request

SESSION = "channelbox_session="


def guest_cookie(url: str, context: ssl.SSLContext | None = None) -> str:
    """The session that the page of rooms gives to a guest: with it what is sent again is recognised."""
    with urllib.request.urlopen(f"{url}/chat/", timeout=10, context=context) as answer:
        cookies = answer.headers.get_all("Set-Cookie") or []
    (session,) = [each.partition(";")[0] for each in cookies if each.startswith(SESSION)]
    return session
