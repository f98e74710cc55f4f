"""What the project depends on: whether any of it is known to be vulnerable, and what of it ships."""
