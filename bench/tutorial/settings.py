"""What `startproject` and the tutorial give, without what a socket never touches."""

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
        # Two settings more than the tutorial's, without which it does not last: redis-py's defaults end an idle
        # connection after 5 s and the hundred-and-first at once.
        "CONFIG": {
            "hosts": [{"address": os.environ["TUTORIAL_REDIS"], "socket_timeout": 15, "max_connections": 10_000}]
        },
    }
}
