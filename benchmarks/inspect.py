"""Inspection against tools one would put in a script: the program; the rest stands in `inspection.py`.

`python benchmarks/inspect.py [CORPUS] [--rounds N] [--core N]`
"""

import sys

if __name__ == "__main__":
    from pathlib import Path

    # In place of this folder, where the library's module of this file's name would be looked for.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

    from benchmarks import inspection

    inspection.main()
else:
    # A script beside this one asked for the library's `inspect`: it gets that, and not this file.
    import importlib.machinery
    import importlib.util
    import sysconfig

    _spec = importlib.machinery.PathFinder.find_spec(
        "inspect", [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
    )
    sys.modules[__name__] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules[__name__])
