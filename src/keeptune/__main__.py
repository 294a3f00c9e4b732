"""`python -m keeptune` is `keeptune`."""

from keeptune.cli import main

main()
