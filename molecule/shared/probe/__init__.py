"""What the scenarios ask of running nodes, and the people who sit at them."""
