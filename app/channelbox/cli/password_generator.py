"""Generated passwords, which people type once."""

import secrets

# Without look-alikes (0 O 1 l I), to be read aloud and typed by hand. Four groups of five are 98 bits.
ALPHABET = "23456789abcdefghjkmnpqrstuvwxyz"


def generate() -> str:
    """Return a random password: four groups of five characters, with hyphens between them."""
    return "-".join("".join(secrets.choice(ALPHABET) for _ in range(5)) for _ in range(4))
