"""The command line. One module per command; `main` only wires them up."""
