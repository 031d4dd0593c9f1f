"""The garbage collector of our processes: it looks at what may be garbage, and not again at what stays."""

import gc

_YOUNG = 20_000


def begin() -> None:
    """Have garbage collected from here on, and what has been imported never looked at; call it once that is all.

    A look through a whole gateway takes a tenth of what its imports take, and the interpreter takes one at its end,
    too. Less than a megabyte of what is kept by this is garbage.
    """
    gc.freeze()
    gc.enable()


def spare() -> None:
    """Take all that exists now for lasting, and look less often; call it once, when the process is ready to serve.

    Requests and connections leave no cycles behind, so nearly everything goes when its last reference does: what a
    client has had us read must not wait for a search, which may take long to come. With the interpreter's own threshold
    of 700 objects, every few dozen requests under way set off one that finds nothing.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
