"""What is done to every server, one kind a file."""
