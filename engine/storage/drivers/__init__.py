"""How a tree is put together: from stacked directories (overlay), or whole (flat)."""
