"""A queueing model of channelbox: estimates what more connections than this machine can hold need, and the limits.

`clock.py` simulates time, cores and processes; `model.py` the path of a message through them. The model is credible
only as far as it reproduces measurements, so `make simulate` first shows both side by side.
"""
