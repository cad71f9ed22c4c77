"""Memory: every operation that a tool, the command line or a page offers, in one class."""

from apex_mcp.operations.entities import Entities
from apex_mcp.operations.finding import Finding
from apex_mcp.operations.following import Following
from apex_mcp.operations.forgetting import Forgettings
from apex_mcp.operations.taking_in import TakingIn
from apex_mcp.operations.upkeep import Upkeep


class Memory(TakingIn, Following, Finding, Entities, Forgettings, Upkeep):
    """The operations.

    All take the caller first; `namespace` None means the caller's own. Every error is an `ApexError`.
    """
