"""A Django project as the Channels tutorial makes it, for the peer of that name."""
