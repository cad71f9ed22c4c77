"""Readers of single formats: each turns bytes into a `Reading`."""
