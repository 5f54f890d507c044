"""The outbound side: delivers from Redis to this process's WebSockets (frames, hub, bus, channel layer, leases)."""
