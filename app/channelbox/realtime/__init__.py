"""Out: from Redis to the sockets of this process. Frames, the hub, the bus, the layer, leases."""
