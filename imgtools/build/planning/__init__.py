"""From instructions to a plan: stages and what they need, resolved steps, cache keys."""
