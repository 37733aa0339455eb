"""Working containers: trees that a script changes step by step and then makes an image of."""
