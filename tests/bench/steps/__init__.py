"""Handlers between the limit, this project and what one would write without it: each differs in one thing."""
