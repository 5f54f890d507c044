"""Access of the scenarios to running nodes, and simulated people who use them."""
