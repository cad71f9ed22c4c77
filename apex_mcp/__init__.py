"""apex-mcp: a memory server for AI assistants. Imports nothing, so that the stdio pump starts at once."""

__version__ = "0.1.0"
