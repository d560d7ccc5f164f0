"""`python -m hybridvit.cli`."""

from . import app

app(prog_name="hybridvit")
