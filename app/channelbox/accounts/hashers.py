"""Password hashing."""

from django.contrib.auth.hashers import Argon2PasswordHasher


class Argon2(Argon2PasswordHasher):
    """argon2id with OWASP's parameters. Django's take 100 MiB each, and when a shift starts, many sign in at once."""

    time_cost = 2
    memory_cost = 19 * 1024  # KiB
    parallelism = 1
