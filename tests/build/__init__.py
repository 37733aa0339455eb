"""Tests of the build, and what they share."""
