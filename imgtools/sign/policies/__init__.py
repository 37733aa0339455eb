"""policy.json and its companion: what admits an image, decided requirement by requirement."""
