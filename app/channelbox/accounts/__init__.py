"""Users, how they sign in, and when their access ends."""
