"""Keys of sigstore signatures: reading, writing, making them, and signing with them."""
