"""The servers that are compared, one per module. Each listens on free ports of 127.0.0.1 and is ended by its id."""
