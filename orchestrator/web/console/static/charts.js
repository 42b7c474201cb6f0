// Draws the tables of figures that are on the page: they are the data. Without this script they stand open.
"use strict";

(() => {
  const heightPx = 240;
  const colours = () => getComputedStyle(document.documentElement);
  const colour = (name) => colours().getPropertyValue(`--chart-${name}`).trim();
  const number = (cell) => {
    const text = cell.dataset.value ?? cell.textContent;
    return text === "" ? null : Number(text.replaceAll(",", ""));
  };

  // The first column is time; each head with a colour is a series.
  function read(table) {
    const heads = [...table.tHead.rows[0].cells];
    const columns = heads.flatMap((head, place) => (head.dataset.colour ? [place] : []));
    const rows = [...table.tBodies[0].rows];
    return {
      at: rows.map((row) => Number(row.cells[0].dataset.at)),
      series: columns.map((place) => ({
        name: heads[place].textContent,
        colour: heads[place].dataset.colour,
        values: rows.map((row) => number(row.cells[place])),
      })),
    };
  }

  function drawn(kind, unit, found) {
    const shown = (value) => (value === null || value === undefined ? "–" : unit === "s" ? `${value.toFixed(1)} s`
      : unit === "%" ? `${value.toFixed(2)} %` : value.toLocaleString("en"));
    if (kind !== "stacked") {
      const paths = kind === "bars" ? uPlot.paths.bars({ size: [0.7, 40] }) : undefined;
      return {
        data: [found.at, ...found.series.map((each) => each.values)],
        series: found.series.map((each) => ({
          label: each.name, stroke: colour(each.colour), width: 2, spanGaps: true, paths,
          fill: kind === "bars" ? colour(each.colour) : undefined, points: { show: kind !== "bars", size: 5 },
          value: (_, value) => shown(value),
        })),
      };
    }
    // Each series stands on those before it: drawn from the top down, the lower ones in front.
    const tops = [];
    found.series.forEach((each, place) => {
      tops.push(each.values.map((value, step) => (value || 0) + (place ? tops[place - 1][step] : 0)));
    });
    const order = found.series.map((_, place) => place).reverse();
    return {
      data: [found.at, ...order.map((place) => tops[place])],
      series: order.map((place) => ({
        label: found.series[place].name, fill: colour(found.series[place].colour),
        stroke: colour(found.series[place].colour), width: 0, points: { show: false },
        paths: uPlot.paths.bars({ size: [0.72, 44] }),
        value: (_, __, ___, step) => shown(step === null ? null : found.series[place].values[step]),
      })),
    };
  }

  // "15:00" within a day, "21 Nov" where a day begins.
  function dates(ticks, step) {
    const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
    return ticks.map((tick, place) => {
      const at = new Date(tick * 1000);
      const midnight = tick % 86400 === 0;
      const clock = at.toISOString().slice(11, 16);
      if (step >= 86400 || midnight) return day.format(at);
      return place ? clock : `${clock}\n${day.format(at)}`;
    });
  }

  function draw(chart) {
    const table = chart.querySelector("details table");
    const step = Number(chart.dataset.step);
    const unit = chart.dataset.unit || "";
    const { data, series } = drawn(chart.dataset.chart, unit, read(table));
    const place = document.createElement("div");
    place.className = "drawing";
    place.setAttribute("aria-hidden", "true");
    chart.querySelector(".drawing")?.remove();
    chart.querySelector("details").before(place);
    const axis = { stroke: colours().getPropertyValue("--ink-soft").trim(), font: "12px system-ui, sans-serif",
      grid: { stroke: colour("grid"), width: 1 }, ticks: { show: false } };
    const drawing = new uPlot({
      width: place.clientWidth, height: heightPx,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
      legend: { markers: { width: 0, fill: (_, index) => series[index - 1].stroke } },
      cursor: { drag: { x: false, y: false }, points: { show: chart.dataset.chart === "lines" } },
      scales: { x: { range: (_, low, high) => [low - step * 0.7, high + step * 0.7] },
        y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
      series: [{ value: (_, at) => (at === null ? "" : new Date(at * 1000).toISOString().slice(0, 16).replace("T", " ")) }, ...series],
      axes: [{ ...axis, grid: { show: false }, space: 64, size: step < 86400 ? 44 : 32, values: (_, ticks) => dates(ticks, step) }, { ...axis, size: 52,
        values: (_, ticks) => ticks.map((tick) => (unit ? `${tick} ${unit}` : tick.toLocaleString("en"))) }],
    }, data, place);
    new ResizeObserver(() => {
      if (place.clientWidth) drawing.setSize({ width: place.clientWidth, height: heightPx });
    }).observe(place);
  }

  function drawAll() { document.querySelectorAll("[data-chart]").forEach(draw); }

  for (const details of document.querySelectorAll("[data-chart] details")) details.open = false;
  drawAll();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
