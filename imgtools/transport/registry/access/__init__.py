"""Credentials and tokens: found, kept, shown to whom they are for, renewed."""
