"""A person who signs in."""

from django.contrib.auth.models import AbstractUser


class User(AbstractUser):
    """Django's user, ours from the first migration on, so that later fields need no change of model."""
