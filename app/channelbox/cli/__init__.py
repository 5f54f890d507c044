"""The `channelbox` command: one file a verb."""
