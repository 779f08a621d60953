"""Where frames come from: a sound card, a file, standard input, or the built-in demo.

Live sources share one shape: made for a number of channels and a rate, `start(ring)` begins to write blocks into the
ring from a thread of their own, and `stop()` ends that and closes the ring.
"""
