"""Access of the scenarios to running nodes, and simulated users."""
