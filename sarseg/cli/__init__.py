"""The command line: `main.py` and a file a command. A command parses, calls one function, prints, and ends with an exit code."""
