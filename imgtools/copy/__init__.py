"""Copying images between any two transports: survey, plan, execute."""
