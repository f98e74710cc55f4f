"""Handlers between the limit and this project: each does one thing more than the one before."""
