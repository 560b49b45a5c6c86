"""``python -m robustprune`` is the command ``robustprune``."""

from robustprune.cli import main

main()
