"""`make bench`: compares channelbox with other servers in one run on one machine. See bench/README.md."""
