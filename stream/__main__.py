"""`python -m stream`: the command line, for who starts it by the interpreter's path."""

from stream.cli.main import main

if __name__ == "__main__":
    main()
