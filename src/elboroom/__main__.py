"""``python -m elboroom``: the command, where its script is not on the path."""

from elboroom.cli import main

main()
