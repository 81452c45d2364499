"""Charts of the JSON files that the other scripts write, one per question.

    python benchmarks/plot.py FILE ... [--threads N] [--folder docs/images]

`ratio.png` and `ratio_pool.png`: how many times faster than the best rival? `peak.png`: how near to what the
processor can do? `memory.png`: how much less memory than im2col? `training.png`: how fast do networks train?
"""

import argparse
import os
from collections import defaultdict

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import report
from matplotlib.ticker import FuncFormatter
from PIL import Image

# Two colours that everyone tells apart, with different markers (Okabe and Ito).
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#888888"
LAYOUTS = {"channels_first": (BLUE, "o", "channels first"), "channels_last": (ORANGE, "D", "channels last"),
           "plane": (BLUE, "o", "one plane")}
STYLE = {"backend": "agg", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False,
         "axes.spines.left": False, "axes.titlesize": 9, "axes.titlelocation": "left", "ytick.left": False,
         "figure.dpi": 110}
LABELLED = (1, 16, 64, 256)     # batches
TICKS = (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
PLAIN = FuncFormatter(lambda value, _: f"{value:g}")


def by_name(rows):
    """Rows of each name, in the order of the file."""
    found = defaultdict(list)
    for row in rows:
        found[row["name"]].append(row)
    return found


def lines(axes, names, rows):
    """A thin line for every name, labelled with the name and what it stands for, the first on top."""
    shapes = {row["name"]: row["shape"] for row in rows}
    axes.set_yticks(range(len(names)), [f"{shapes[name]}    {name}" for name in names])
    axes.set_ylim(len(names) - 0.5, -0.8)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)


def finish(figure, rows, title, path):
    first = rows[0]
    machine = (f"{first['processor']}; {first['threads']} thread{'s' * (first['threads'] > 1)}; {first['isa']}; "
               f"{first['dtype']}; {first['date']}")
    if first["benchmark"] == "conv":
        machine = f"batch x channels x size -> channels, kernel, s stride, p padding, d dilation, g groups\n{machine}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
    figure.supxlabel(machine, x=0.01, ha="left", color=GREY, fontsize=7)
    figure.canvas.draw()
    pixels = Image.fromarray(np.asarray(figure.canvas.buffer_rgba())).convert("RGB")
    pixels.quantize(64).save(path, optimize=True)      # few colours: a quarter of the bytes
    plt.close(figure)
    print(path)


def ratios(rows, title, path):
    """One panel per pass, one line per shape, one mark per layout."""
    passes, names = list(dict.fromkeys(row["pass"] for row in rows)), list(by_name(rows))
    figure, panels = plt.subplots(1, len(passes), sharey=True, squeeze=False, layout="constrained",
                                  figsize=(10, 1.7 + 0.17 * len(names)))
    for axes, which in zip(panels[0], passes):
        chosen = [row for row in rows if row["pass"] == which]
        axes.axvline(1, color="black", linewidth=1)
        axes.axvspan(1e-9, 1, color="#f3f3f3", zorder=0)
        for layout, (colour, marker, label) in LAYOUTS.items():
            own = [row for row in chosen if row["layout"] == layout]
            places = [names.index(row["name"]) for row in own]
            axes.scatter([row["ratio"] for row in own], places, 16, colour, marker=marker, zorder=3,
                         label=label if own else None)
        axes.set_xscale("log")
        low, high = min(row["ratio"] for row in rows), max(row["ratio"] for row in rows)
        axes.set_xlim(min(low, 0.5) / 1.15, max(high, 2) * 1.15)
        axes.set_xticks([tick for tick in TICKS if axes.get_xlim()[0] <= tick <= axes.get_xlim()[1]])
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(PLAIN)
        axes.set_xlabel("slower  <  1  <  faster")
        mean = report.geometric_mean([row["ratio"] for row in chosen])
        axes.set_title(f"{which}\nmean {mean:.2f} x")
        lines(axes, names, rows)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower right", ncols=2, frameon=False)
    finish(figure, rows, title, path)


def pairs(axes, names, rows, own, other, unit, labels):
    """cyconv's value and the other's on one line each, joined."""
    for index, ends in enumerate(zip(own, other)):
        axes.plot(ends, [index, index], color="#bbbbbb", linewidth=1, zorder=2)
    axes.scatter(other, range(len(names)), 18, ORANGE, marker="D", zorder=3)
    axes.scatter(own, range(len(names)), 18, BLUE, marker="o", zorder=4)
    lines(axes, names, rows)
    axes.set_xlabel(unit)
    for value, against, label, colour in ((own[0], other[0], labels[0], BLUE), (other[0], own[0], labels[1], ORANGE)):
        side = 1 if value >= against else -1
        axes.annotate(label, (value, 0), xytext=(4 * side, 5), textcoords="offset points", color=colour,
                      fontweight="bold", ha="left" if side > 0 else "right")


def fastest(rows):
    """The faster layout of each name."""
    return {name: min(found, key=lambda row: row["seconds"]) for name, found in by_name(rows).items()}


def peak(rows, path):
    own = fastest([row for row in rows if row["pass"] == "forward" and row["best"]])
    names = sorted(own, key=lambda name: -own[name]["fma_share"])
    shares = [100 * own[name]["fma_share"] for name in names]
    factors = [row["seconds"] / row["rivals"][row["best"]]["seconds"] for row in map(own.get, names)]
    figure, axes = plt.subplots(figsize=(8, 1.4 + 0.17 * len(names)), layout="constrained")
    pairs(axes, names, rows, shares, [share * factor for share, factor in zip(shares, factors)],
          "% of the processor's fused multiply-adds", ("cyconv", "best rival"))
    axes.set_xlim(left=0)
    finish(figure, rows, "Convolution forward: share of the processor's peak, faster layout of each", path)


def memory(rows, path, least=2e6):
    known = [row for row in rows if row["pass"] == "forward" and row["memory"] and row["memory_plain"] > least]
    own = {name: max(found, key=lambda row: row["memory"]) for name, found in by_name(known).items()}
    names = sorted(own, key=lambda name: -own[name]["memory_plain"])
    figure, axes = plt.subplots(figsize=(8, 1.4 + 0.17 * len(names)), layout="constrained")
    pairs(axes, names, rows, [own[name]["memory"] / 1e6 for name in names],
          [own[name]["memory_plain"] / 1e6 for name in names], "MB that one call adds, result included",
          ("cyconv", "NumPy im2col"))
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(PLAIN)
    axes.set_xlim(right=axes.get_xlim()[1] * 3)
    finish(figure, rows, "Convolution forward: memory of one call, in the layout that needs more", path)


def training(rows, path):
    rows = [row for row in rows if row["pass"] in ("step", "predict") and row["best"]]
    names = list(by_name(rows))
    figure, panels = plt.subplots(2, len(names), sharex=True, figsize=(9, 4.6), layout="constrained", sharey="row")
    for which, what, line in zip(("step", "predict"), ("training", "prediction"), panels):
        for name, axes in zip(names, line):
            found = sorted((row for row in rows if row["name"] == name and row["pass"] == which),
                           key=lambda row: row["batch"])
            batches = [row["batch"] for row in found]
            own = [row["rate"] for row in found]
            other = [row["rate"] / row["ratio"] for row in found]
            axes.plot(batches, own, "o-", color=BLUE, markersize=4)
            axes.plot(batches, other, "D--", color=ORANGE, markersize=3.5)
            for row, value in zip(found, own):
                if row["batch"] not in LABELLED:
                    continue
                axes.annotate(f"{row['ratio']:.1f}x", (row["batch"], value), xytext=(0, 5), textcoords="offset points",
                              ha="center", fontsize=7, color=BLUE)
            axes.set_xscale("log", base=4)
            axes.set_yscale("log")
            axes.set_xticks(LABELLED, map(str, LABELLED))
            axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
            if which == "step":
                axes.set_title(name)
            else:
                axes.set_xlabel("batch")
        line[0].set_ylabel(f"{what}, samples/s")
        line[0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    for label, height, colour in (("cyconv", 0.12, BLUE), ("PyTorch", 0.02, ORANGE)):
        panels[0][0].annotate(label, (0.97, height), xycoords="axes fraction", color=colour, fontweight="bold",
                              ha="right")
    finish(figure, rows, "Samples per second by batch size; labels: cyconv over PyTorch in its faster layout", path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="rows measured with so many (default: all)")
    parser.add_argument("--folder", default=os.path.join("docs", "images"))
    options = parser.parse_args()
    rows = [row for path in options.files for row in report.load(path)
            if row["threads"] == options.threads and row.get("dtype", "float32") == "float32"]
    found = {name: [row for row in rows if row["benchmark"] == name] for name in ("conv", "pool", "image", "training")}
    os.makedirs(options.folder, exist_ok=True)
    charts = {"ratio.png": ("conv", ratios, "Convolution: times the speed of the best rival, whatever its layout"),
              "ratio_pool.png": ("pool", ratios, "Pooling: times the speed of the best rival, whatever its layout"),
              "ratio_image.png": ("image", ratios, "One filter on one image: times the speed of the best rival"),
              "peak.png": ("conv", peak), "memory.png": ("conv", memory), "training.png": ("training", training)}
    with mpl.rc_context(STYLE):
        for name, (benchmark, draw, *title) in charts.items():
            if found[benchmark]:
                draw(found[benchmark], *title, os.path.join(options.folder, name))


if __name__ == "__main__":
    main()
