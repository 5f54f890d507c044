"""Settings as of `startproject` and the tutorial, without those that a WebSocket does not use."""

import os

SECRET_KEY = "only-for-this-comparison"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["channels", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
ROOT_URLCONF = "bench.tutorial.urls"
ASGI_APPLICATION = "bench.tutorial.asgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["TUTORIAL_DATABASE"]}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
USE_TZ = True
CHANNEL_LAYERS = {
    "default": {
        "BACKEND": os.environ["TUTORIAL_LAYER"],
        # Two settings that the tutorial does not have, but cannot do without here: by default, redis-py ends an idle
        # connection after 5 s, and refuses the hundred-and-first connection at once.
        "CONFIG": {
            "hosts": [{"address": os.environ["TUTORIAL_REDIS"], "socket_timeout": 15, "max_connections": 10_000}]
        },
    }
}
