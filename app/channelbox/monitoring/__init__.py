"""Monitoring of the processes: reports, figures and health."""
