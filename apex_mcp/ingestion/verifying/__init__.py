"""Comparing everything with the record, and mending what differs; nothing is computed that the record has."""

from apex_mcp.ingestion.verifying.findings import Finding
from apex_mcp.ingestion.verifying.verifier import Verifier

__all__ = ["Finding", "Verifier"]
