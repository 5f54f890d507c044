"""`make bench`: channelbox beside its peers, in one run on one machine. bench/README.md says how to read it."""
