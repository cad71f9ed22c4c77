"""What is known of the components' health, as those that use them notice it."""

from dataclasses import dataclass, field
from typing import Literal

State = Literal["ok", "degraded", "down", "off"]


@dataclass(frozen=True, slots=True)
class Condition:
    """One component's state, with a sentence for the user where it is not well."""

    state: State
    detail: str = ""


@dataclass(slots=True)
class Health:
    """The latest condition of each component, by name."""

    conditions: dict[str, Condition] = field(default_factory=dict[str, Condition])

    def note(self, name: str, state: State, detail: str = "") -> None:
        """Remember a component's condition."""
        self.conditions[name] = Condition(state, detail)

    def of(self, name: str) -> Condition:
        """A component's condition; one of which nothing was heard is well."""
        return self.conditions.get(name, Condition("ok"))
