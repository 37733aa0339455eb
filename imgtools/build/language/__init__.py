"""The language of Containerfiles: text to typed instructions. Opens nothing, runs nothing."""
