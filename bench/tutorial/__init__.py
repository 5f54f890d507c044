"""The Django project of the Channels tutorial, for the peer `tutorial`."""
