"""Draws the pictures of pictures.md by running its snippets in docs/pictures."""

import os
import re
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
here = Path(__file__).parent
page = (here / "pictures.md").read_text(encoding="utf-8")
os.chdir(here / "pictures")
snippets = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
exec(compile("\n".join(snippets), "pictures.md", "exec"), {"__name__": "__main__"})
