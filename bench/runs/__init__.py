"""The kinds of runs that every server goes through, one per module."""
