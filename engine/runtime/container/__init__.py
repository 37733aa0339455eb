"""Containers: planned, made, started, entered, ended, and what is kept about them."""
