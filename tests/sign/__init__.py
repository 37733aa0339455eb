"""Tests of signing and of the places where signatures are kept."""
