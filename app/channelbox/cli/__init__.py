"""The `channelbox` command: one module for each subcommand."""
