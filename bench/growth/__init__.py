"""What things cost as they grow: members, rooms, processes, nodes."""
