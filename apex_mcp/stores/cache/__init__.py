"""Caches and what else several processes share for speed only: in the process, or in Redis."""
