"""Run a script that was written for pytorch-ignite with the Engine of this package.

`python -m fengine.engine SCRIPT [ARGS]` does what `python SCRIPT [ARGS]` does, with
`fengine.engine.install()` called before.
"""

from fengine.engine.ignite.command_line import main

if __name__ == "__main__":
    main()
