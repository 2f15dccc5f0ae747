"""Prints in one sentence why the Python that reads this cannot run matfn, or nothing; any Python can read it."""

import sys

NEEDED = (3, 11)
HERE = "Python " + sys.version.split()[0] + " (" + sys.executable + ")"

if sys.version_info < NEEDED:
    print("matfn needs Python 3.11 or newer, and this is " + HERE + ": name another one with make PYTHON=python3.12")
else:
    import importlib.util

    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        print(HERE + " cannot make environments: install its venv and ensurepip (Debian: apt install python3-venv)")
