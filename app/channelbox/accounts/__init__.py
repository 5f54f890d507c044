"""People: who they are, how they sign in, and when that ends."""
