"""`python -m jaxtask` is `jaxtask`."""

from jaxtask.cli import main

main()
