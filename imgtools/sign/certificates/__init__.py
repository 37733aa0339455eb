"""Certificates and transparency log entries that come with signatures."""
