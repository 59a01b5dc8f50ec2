"""`python -m jaxtask` is `jaxtask`."""

from jaxtask.cli.main import main

main()
