"""Generated from proto/ by the build.

Every generated module imports protobuf's implementation in Python, which here only its
implementation in C replaces: a tenth of the start of a dump. So it is put off until somebody asks
it for something, which nobody does where there is the one in C.
"""

from __future__ import annotations

import sys
from importlib.util import LazyLoader, find_spec, module_from_spec

from google.protobuf import internal

_PUT_OFF = "python_message"


def _put_off() -> None:
    name = f"{internal.__name__}.{_PUT_OFF}"
    spec = None if name in sys.modules else find_spec(name)
    if spec is None or spec.loader is None:
        return
    spec.loader = LazyLoader(spec.loader)
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    # Found as an attribute, it is not looked up as a module, which would already ask it something.
    setattr(internal, _PUT_OFF, module)


_put_off()
