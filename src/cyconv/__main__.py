"""``python -m cyconv``: a demonstration, and what this installation computes with."""

import argparse
import os
from importlib.util import find_spec

import cyconv


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
    options = parser.parse_args(arguments)
    if options.command == "info":
        if hasattr(options, "plot"):
            parser.error("info takes no --plot")
        cyconv.show_config()
    else:
        from . import _demo
        _demo.run(getattr(options, "plot", None))


if __name__ == "__main__":
    main()
