"""Rooms and the messages in them."""
