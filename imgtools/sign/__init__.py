"""Signatures and the policy that decides which images are admitted."""
