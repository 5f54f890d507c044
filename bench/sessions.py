"""`python -m bench.sessions COUNT`: creates users with a session each, and prints the cookies of the sessions.

Runs with the settings of a server's Django project, that of channelbox or that of the tutorial.
"""

import datetime
import sys
from importlib import import_module


def main(count: int) -> None:
    import django

    django.setup()
    from django.conf import settings
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
    from django.contrib.sessions.models import Session
    from django.utils import timezone

    store = import_module(settings.SESSION_ENGINE).SessionStore
    people = get_user_model()
    # An unusable password, as nobody signs in with it; this saves computing a hash for each.
    users = people.objects.bulk_create([people(username=f"member-{n}", password="!") for n in range(count)])
    expires = timezone.now() + datetime.timedelta(hours=1)
    sessions = []
    for user in users:
        content = {
            SESSION_KEY: str(user.pk),
            BACKEND_SESSION_KEY: settings.AUTHENTICATION_BACKENDS[0],
            HASH_SESSION_KEY: user.get_session_auth_hash(),
        }
        key = store()._get_new_session_key()
        sessions.append(Session(session_key=key, session_data=store().encode(content), expire_date=expires))
    Session.objects.bulk_create(sessions)
    for session in sessions:
        print(f"{settings.SESSION_COOKIE_NAME}={session.session_key}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
