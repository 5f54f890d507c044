"""channelbox as a few queues, to look past the machine at hand: what many connections need, and where it ends.

`clock.py` has time, cores and processes, `model.py` the way of a message through them. It is believed only as far as it
reproduces what was measured: `make simulate` shows both side by side first.
"""
