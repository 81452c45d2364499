"""What the scripts share on the outside: options, the table, JSON files, the lines that sum up.

    python benchmarks/report.py FILE ... [--below RATIO]

prints the rows of JSON files as a table in Markdown, those furthest behind the best rival first.
"""

import argparse
import json
import os
import platform
from datetime import date
from fnmatch import fnmatchcase as fnmatch
from math import exp, log

# What tells one row from another: a row of a file is replaced when it is measured anew.
KEYS = ("benchmark", "name", "pass", "layout", "dtype", "batch", "threads", "isa")

BUSY = 0.02    # share of the machine that others may use before a row says so


def parse(description, **more):
    """Command line of a script; ``more`` are its own options, name to keywords of add_argument."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of every contender (default: all)")
    parser.add_argument("--only", metavar="NAME", nargs="+", help="of these names, as in 'vgg*'")
    parser.add_argument("--quick", dest="rounds", action="store_const", const=3, default=7, help="3 rounds, not 7")
    parser.add_argument("--json", metavar="FILE", help="add the rows to FILE, in place of its rows of the same kind")
    for name, keywords in more.items():
        parser.add_argument(f"--{name}", **keywords)
    return parser.parse_args()


def chosen(names, only):
    """Those of the names, or of the shapes with names, that the user wants."""
    found = [one for one in names if not only or any(fnmatch(getattr(one, "name", one), pattern) for pattern in only)]
    if not found:
        raise SystemExit(f"--only: no name is like {' or '.join(only)}; there are "
                         + ", ".join(getattr(one, "name", one) for one in names))
    return found


def processor():
    """What the system calls it; the family tells the generation where the name does not."""
    if not os.path.exists("/proc/cpuinfo"):
        return platform.processor() or platform.machine()
    with open("/proc/cpuinfo") as file:
        facts = dict(map(str.strip, line.split(":", 1)) for line in file.read().split("\n\n")[0].splitlines())
    name = facts.get("model name", platform.machine())
    return f"{name}, family {facts.get('cpu family')}, model {facts.get('model')}"


def save(path, rows):
    """Write the rows, and those of the file that were not measured anew."""
    def key(row):
        return tuple(row.get(name) for name in KEYS)

    kept = {key(row): row for row in load(path)} if os.path.exists(path) else {}
    kept |= {key(row): row | {"date": date.today().isoformat(), "processor": processor()} for row in rows}
    with open(path, "w") as file:
        json.dump(list(kept.values()), file, indent=1)


def load(path):
    with open(path) as file:
        return json.load(file)


def geometric_mean(values):
    return exp(sum(map(log, values)) / len(values))


def print_head(names):
    print(f"{'name':15} {'dt':2} {'pass':11} {'layout':6} {'us':>9} {'spread':>6} {'GFLOP/s':>8} {'peak':>5} "
          f"{'GB/s':>6} {'copy':>5} {'best':>6}" + "".join(f"{name:>7.6}" for name in names) + f"{'MB':>7}{'plain':>7}")


def print_row(row, names):
    def number(value, spec):
        return " " * int(spec.split(".")[0]) if value is None else f"{value:{spec}}"

    ratios = [row["rivals"][name]["ratio"] if name in row["rivals"] else None for name in names]
    memory = [row[key] and row[key] / 1e6 for key in ("memory", "memory_plain")]
    print(f"{row['name']:15} {row['dtype'][5:]:2} {row['pass']:11} {row['layout'].split('_')[-1]:6} "
          f"{row['seconds'] * 1e6:9.1f} {row['spread']:6.0%} {row['gflops']:8.1f} {row['fma_share']:5.0%} "
          f"{row['gbs']:6.1f} {row['copy_share']:5.0%} " + number(row["ratio"], "6.2f")
          + "".join(number(value, "7.2f") for value in ratios) + "".join(number(value, "7.1f") for value in memory)
          + (f"  others used {row['others']:.0%} of the machine" if row["others"] > BUSY else ""), flush=True)


def summarise(rows):
    """Print mean and worst of the ratios of each pass."""
    for name in dict.fromkeys(row["pass"] for row in rows):
        ratios = {f"{row['name']} {row['layout']} {row['dtype']}": row["ratio"]
                  for row in rows if row["pass"] == name and row["ratio"]}
        if ratios:
            worst = min(ratios, key=ratios.get)
            print(f"{name}: geometric mean {geometric_mean(ratios.values()):.2f} x the best rival, "
                  f"worst {ratios[worst]:.2f} ({worst}), {len(ratios)} rows")


def main():
    parser = argparse.ArgumentParser(description="rows of JSON files, those furthest behind the best rival first")
    parser.add_argument("files", nargs="+")
    parser.add_argument("--below", type=float, default=float("inf"), help="only rows with a lower ratio")
    options = parser.parse_args()
    rows = [row for path in options.files for row in load(path) if row.get("ratio") and row["ratio"] < options.below]
    print("| ratio | best rival | name | shape | pass | layout | dtype | threads | us | spread "
          "| GFLOP/s | peak | copy |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for row in sorted(rows, key=lambda row: row["ratio"]):
        print(f"| {row['ratio']:.2f} | {row['best']} | {row['name']} | {row['shape']} | {row['pass']} | "
              f"{row['layout']} | {row['dtype']} | {row['threads']} | {row['seconds'] * 1e6:.0f} | "
              f"{row['spread']:.0%} | {row['gflops']:.0f} | {row['fma_share']:.0%} | {row['copy_share']:.0%} |")


if __name__ == "__main__":
    main()
