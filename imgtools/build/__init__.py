"""Containerfiles to images."""
