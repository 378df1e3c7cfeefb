"""Programs within the pages of the project, and what these say that they print."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = (
    "README.md",
    "docs/api/doctor.md",
    "docs/api/executor.md",
    "docs/api/install.md",
    "docs/api/locks.md",
    "docs/api/pipelines.md",
    "docs/api/pool-insights.md",
    "docs/api/pool-workers.md",
    "docs/api/pool.md",
    "docs/api/processes.md",
    "docs/api/queues.md",
    "docs/api/shared-dict.md",
    "docs/api/shared-memory.md",
    "docs/api/waiting.md",
    "docs/guide/moving-from-multiprocessing.md",
)
OF_CLIENTS = ("docs/api/clients.md",)
"""Pages whose programs need packages that only `make test-clients` installs."""

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PRINTED = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Program:
    """A program of a page. What it prints stands behind each `print`, in this order."""

    name: str
    source: str

    @property
    def output(self):
        assert self.source.count("print(") == len(_PRINTED.findall(self.source)), (
            f"{self.name}: a `print` without what it prints behind it"
        )
        return "".join(f"{line}\n" for line in _PRINTED.findall(self.source))


def programs(pages=PAGES):
    """All programs, named by page and line."""
    for page in pages:
        text = (ROOT / page).read_text()
        for block in _BLOCK.finditer(text):
            line = text.count("\n", 0, block.start()) + 1
            yield Program(f"{page}:{line}", block[1])
