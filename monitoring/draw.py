"""Draws what the dashboards show, panel by panel, with the series of a Prometheus. Grafana draws them better; this shows that there
is something to draw, where no Grafana is."""

import json
import math
from datetime import datetime, timezone
from pathlib import Path

from matplotlib import dates, rcParams
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
# Of Grafana: a dashboard is 24 columns wide, and a row 30 px high.
COLUMNS = 24
WIDTH_INCHES = 13
ROW_INCHES = 0.3
STEP_SECONDS = 1
# Rows of a table, after which the rest is only counted.
MOST = 12
# Lines that get a name: those that rise the highest.
NAMED = 6
# Letters stay letters: a third of the size, and they can be searched.
rcParams["svg.fonttype"] = "none"


def draw(folder, ask, begin, end):
    """Draws every dashboard into the folder, from one time to another, both in seconds since 1970. `ask` asks Prometheus."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((HERE / "grafana/dashboards").glob("*.json")):
        board = json.loads(path.read_text())
        rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
        figure = Figure(figsize=(WIDTH_INCHES, rows * ROW_INCHES + 0.5), facecolor="white")
        figure.suptitle(board["title"], x=0.01, ha="left", fontsize=12, weight="bold")
        height = (rows * ROW_INCHES) / (rows * ROW_INCHES + 0.5)
        for panel in board["panels"]:
            at = panel["gridPos"]
            left, width = at["x"] / COLUMNS, at["w"] / COLUMNS
            bottom, tall = height * (1 - (at["y"] + at["h"]) / rows), height * at["h"] / rows
            # Room for a title above, ticks below and at the left.
            room = (0.38 / (rows * ROW_INCHES + 0.5), 0.32 / (rows * ROW_INCHES + 0.5))
            axes = figure.add_axes((left + 0.035, bottom + room[1], width - 0.045, tall - sum(room)))
            axes.set_title(panel["title"], loc="left", fontsize=8)
            axes.tick_params(labelsize=6)
            axes.spines[["top", "right"]].set_visible(False)
            PANELS[panel["type"]](axes, panel, lambda target: series(ask, target, begin, end))
        figure.savefig(folder / f"{path.stem}.svg", metadata={"Date": None})


def series(ask, target, begin, end):
    """The lines of a target: a name, times and values each."""
    expression = target["expr"].replace("$__rate_interval", "15s")
    found = ask("/api/v1/query_range", query=expression, start=begin, end=end, step=STEP_SECONDS)["result"]
    for one in found:
        name = target.get("legendFormat", "")
        for label, value in one["metric"].items():
            name = name.replace("{{%s}}" % label, value)
        times = [datetime.fromtimestamp(at, timezone.utc) for at, _ in one["values"]]
        yield name, one["metric"], times, [float(value) for _, value in one["values"]]


def unit_of(panel):
    return panel["fieldConfig"]["defaults"].get("unit", "short")


def lines(axes, panel, of):
    """Lines over time, and limits in red."""
    found = [(name, times, values) for target in panel["targets"] for name, _, times, values in of(target)]
    found.sort(key=lambda one: max((value for value in one[2] if math.isfinite(value)), default=0), reverse=True)
    for at, (name, times, values) in enumerate(found):
        # Behind the named ones, what is zero throughout is left out.
        if at < NAMED or any(values):
            axes.plot(times, values, linewidth=1, label=name if at < NAMED else None)
    axes.set_ylim(bottom=0)
    top = axes.get_ylim()[1]
    for step in panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", []):
        if step["value"] is not None and step["value"] <= top:
            axes.axhline(step["value"], color="red", linewidth=0.7)
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    axes.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=5))
    axes.set_ylabel(unit_of(panel), fontsize=6)
    if panel.get("options", {}).get("legend", {}).get("showLegend") and found:
        legend = axes.legend(fontsize=5, loc="upper left", title=f"and {len(found) - NAMED} more" if len(found) > NAMED else None)
        legend.get_title().set_fontsize(5)
        legend.get_frame().set(alpha=0.7, linewidth=0)


def number(axes, panel, of):
    """The last value, large."""
    axes.axis("off")
    found = [(name, values[-1]) for target in panel["targets"] for name, _, _, values in of(target)]
    text = "\n".join(f"{name + ' ' if len(found) > 1 else ''}{value:.4g}" for name, value in found[:MOST]) or "nothing"
    axes.text(0.5, 0.45, f"{text} {unit_of(panel).replace('short', '')}", ha="center", va="center", fontsize=11 if len(found) < 4 else 6)


def table(axes, panel, of):
    """The last value of each series, with its labels."""
    axes.axis("off")
    found = [(metric, values[-1]) for target in panel["targets"] for _, metric, _, values in of(target)]
    rows = [" ".join(v for k, v in sorted(metric.items()) if k != "__name__") + f"   {value:.4g}" for metric, value in found]
    if len(rows) > MOST:
        rows[MOST:] = [f"… and {len(rows) - MOST} more"]
    axes.text(0, 0.95, "\n".join(rows) or "nothing", va="top", fontsize=6, family="monospace")


def heat(axes, panel, of):
    """Buckets of a histogram over time: how many in each, not how many up to it."""
    [target] = panel["targets"]
    buckets = sorted((float(metric["le"]), times, values) for _, metric, times, values in of(target))
    if not buckets:
        return
    times = max((times for _, times, _ in buckets), key=len)
    columns = {at: index for index, at in enumerate(times)}
    grid, below = [], [0.0] * len(times)
    for _, at, values in buckets:
        row = list(below)
        for time, value in zip(at, values, strict=True):
            row[columns[time]] = 0.0 if math.isnan(value) else value
        grid.append([max(up - down, 0.0) for up, down in zip(row, below, strict=True)])
        below = row
    axes.pcolormesh(times, range(len(buckets)), [[v or math.nan for v in row] for row in grid], cmap="Oranges", norm=LogNorm(), shading="nearest", rasterized=True)
    axes.set_yticks(range(len(buckets)), [f"{le:g}" for le, _, _ in buckets])
    axes.xaxis.set_major_formatter(dates.DateFormatter("%H:%M:%S"))
    axes.xaxis.set_major_locator(dates.AutoDateLocator(maxticks=5))
    axes.set_ylabel("≤ s", fontsize=6)


PANELS = {"timeseries": lines, "stat": number, "table": table, "heatmap": heat}
