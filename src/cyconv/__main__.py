"""``python -m cyconv``: a demonstration, and what this installation computes with."""

import argparse

import cyconv


def main(arguments=None):
    """Run the command line; ``arguments`` is a list of str, None for those of the process."""
    parser = argparse.ArgumentParser(prog="python -m cyconv", description=cyconv.__doc__)
    commands = parser.add_subparsers(dest="command", metavar="command")
    demo = commands.add_parser("demo", help="train and grid-search a small CNN on handwritten digits (the default)",
                               description="Train and grid-search a small CNN on scikit-learn's handwritten digits: "
                               "summary, training, cross-validated table, held-out accuracy. Under a minute.")
    for place in (parser, demo):
        place.add_argument("--plot", metavar="FILE.png", default=argparse.SUPPRESS,
                           help="also save a picture: loss, filters, predictions, confusion matrix (needs matplotlib)")
    commands.add_parser("info", help="print versions, instruction set, threads, OpenMP and compiler")
    options = parser.parse_args(arguments)
    if options.command == "info":
        cyconv.show_config()
    else:
        from . import _demo
        _demo.run(getattr(options, "plot", None))


if __name__ == "__main__":
    main()
