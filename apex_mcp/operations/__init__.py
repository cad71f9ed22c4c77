"""The operations of a memory, by what they are for; `apex_mcp.memory.Memory` has them all."""
