"""``python -m cyconv``: a demonstration, what this installation computes with, and proof that it is right."""

import argparse
import os
import sys
from importlib.util import find_spec
from math import inf

import cyconv
from cyconv import selftest


def picture(path):
    """``path``, if a picture can be written there: asked before the work, not after."""
    if find_spec("matplotlib") is None:
        raise argparse.ArgumentTypeError("matplotlib is missing: python -m pip install matplotlib")
    folder, extension = os.path.dirname(path) or ".", os.path.splitext(path)[1]
    if not os.path.isdir(folder):
        raise argparse.ArgumentTypeError(f"there is no folder {folder!r}")
    if extension not in (".png", ".pdf", ".svg", ".jpg"):
        raise argparse.ArgumentTypeError(f"{path!r} must end in .png, .pdf, .svg or .jpg")
    return path


def check_named(name):
    if name not in selftest.CHECKS:
        raise argparse.ArgumentTypeError(f"no check {name!r}; there are {', '.join(selftest.CHECKS)}")
    return name


def not_negative(kind):
    """A parser of numbers of that kind."""
    def parse(text):
        value = kind(text)
        if not 0 <= value < inf:
            raise argparse.ArgumentTypeError(f"must be a number of at least 0, got {text}")
        return value

    parse.__name__ = kind.__name__
    return parse


def add_selftest(commands):
    command = commands.add_parser("selftest", help="prove every promise on this machine, in about a minute",
                                  description="Prove every promise on this machine. Each check prints its figures, "
                                  "its seeds, a command that reproduces each failure, and how many planted faults it "
                                  "catches. The exit status is not 0 if anything fails.")
    command.add_argument("names", metavar="NAME", nargs="*", type=check_named,
                         help=f"checks to run, all by default: {', '.join(selftest.CHECKS)}")
    command.add_argument("--seconds", type=not_negative(float), default=60.0, metavar="S",
                         help="time for all together, beside the controls; 0 tries one case of each (default 60)")
    command.add_argument("--seed", type=not_negative(int), default=0, metavar="N",
                         help="seed of the first case (default 0)")


def main(arguments=None):
    """Run the command line; ``arguments`` is a list of str, None for those of the process."""
    parser = argparse.ArgumentParser(prog="python -m cyconv", description=cyconv.__doc__)
    commands = parser.add_subparsers(dest="command", metavar="command")
    demo = commands.add_parser("demo", help="train and grid-search a small CNN on handwritten digits (the default)",
                               description="Train and grid-search a small CNN on scikit-learn's handwritten digits: "
                               "summary, training, cross-validated table, held-out accuracy. Under a minute.")
    for place in (parser, demo):
        place.add_argument("--plot", metavar="FILE.png", default=argparse.SUPPRESS, type=picture,
                           help="also save a picture: loss, filters, predictions, confusion matrix (needs matplotlib)")
    commands.add_parser("info", help="print versions, instruction set, threads, OpenMP and compiler")
    add_selftest(commands)
    options = parser.parse_args(arguments)
    if options.command not in (None, "demo") and hasattr(options, "plot"):
        parser.error(f"{options.command} takes no --plot")
    if options.command == "info":
        cyconv.show_config()
    elif options.command == "selftest":
        from .selftest import _run
        names = list(dict.fromkeys(options.names)) or selftest.CHECKS
        sys.exit(_run.status_of(lambda: _run.main(names, options.seconds, options.seed)))
    else:
        from . import _demo
        _demo.run(getattr(options, "plot", None))


if __name__ == "__main__":
    main()
