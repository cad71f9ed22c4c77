"""Archives: a memory as one portable file, written and read as a stream."""
