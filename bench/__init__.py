"""Measurements beside the peer: every case runs both programs alternately, side by side.

The result is the median of the ratios of neighbouring runs, which a slow moment of the
machine disturbs least. Nothing here is a test; nothing in the tests is timed.
"""
