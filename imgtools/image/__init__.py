"""What images are, above the specifications and below any place where they live."""
