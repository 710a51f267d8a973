"""The room that stands in for pytorch-ignite: code that imports `ignite.engine` gets our Engine.

The handlers and metrics of pytorch-ignite, and scripts that are written for it, import the Engine
from `ignite.engine`. After `install`, that import finds this package instead. It works so:

- A finder is put first into `sys.meta_path`. It knows `ignite.engine` and its four modules, and
  leaves all other names to the finders after it, so that `ignite.metrics` is that of the package.
- For a name that it knows, the finder has a loader that loads nothing. It returns the module of
  ours that stands for the name. So one module object has two names, and a class is the same class
  wherever it is imported from.
- `stand_in` is the package that stands for `ignite.engine`. Its classes and functions are those of
  `fengine.engine`, under the semantics of pytorch-ignite 0.5.5 and in its order of arguments.
- `fengine.engine.events` and `fengine.engine.utils` stand for the modules of the same names.

`python -m fengine.engine SCRIPT` calls `install` and runs a script unchanged. `command_line` reads
the command, and `main_module` takes the place of the main module. A process that the script spawns
imports `main_module` by its name, so that it calls `install` too.

Modules: `replacement` has `install`, the finder and the loader; `command_line` and `main_module`
run scripts. Nothing outside this room knows pytorch-ignite, but for `fengine.engine`, which exports
`install`.
"""
