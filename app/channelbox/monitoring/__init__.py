"""What runs where, and how it is doing."""
