"""Measures how costs grow with the numbers of members, rooms, processes and nodes."""
