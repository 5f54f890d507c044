"""Passwords made up for people who will type them once."""

import secrets

# Without look-alikes (0 O 1 l I): read aloud and typed by hand. Four groups of five are 98 bits.
ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"


def generate() -> str:
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(5)) for _ in range(4))
