"""The servers that are compared, one a file. Each is started on free ports of 127.0.0.1 and ended by its id."""
