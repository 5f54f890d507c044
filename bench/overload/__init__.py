"""Measures how overload caused by some clients affects all others."""
