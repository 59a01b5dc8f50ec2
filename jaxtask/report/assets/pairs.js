// One pair of tasks: its angles, its spectra, its pooled values.

const vectors = new Map();

/** The k-th vector of a stored block of vectors, one a cell; NaN where nothing is. */
function vectorAt(block, cell) {
  if (!vectors.has(block)) vectors.set(block, floats(block));
  const all = vectors.get(block);
  return all.subarray(cell * page.components, (cell + 1) * page.components);
}

function startPairs() {
  const name = ([a, b]) => `${tasks[a]} – ${tasks[b]}`;
  fill("pair-pair", page.pairs.map((pair, n) => [n, name(pair.tasks)]), drawPair);
  fill("pair-layer", layerOptions(), drawPair);
  fill("pair-module", moduleOptions(), drawPair);
}

function drawPair() {
  if (!page.pairs.length) return;
  const pair = page.pairs[Number(chosen("pair-pair"))];
  const cells = cellsOf(chosen("pair-layer"), chosen("pair-module"));
  for (const side of Object.keys(pair.angles)) drawAngles(pair, side, cells);
  drawSpectra("spectra-forth", pair, 0, cells);
  drawSpectra("spectra-back", pair, 1, cells);
  tabulate(pair);
}

function drawAngles(pair, side, cells) {
  const found = meanVector(cells, (cell) => vectorAt(pair.angles[side], cell));
  const traces = [];
  const bandAt = (part) => meanVector(cells, (cell) => {
    const band = pair.bands[side][cell];
    return band === null ? null : page.bands[band][part];
  });
  const [low, middle, high] = ["low", "mean", "high"].map(bandAt);
  const index = (values) => values.map((_, k) => k + 1);
  if (middle.length) {
    traces.push({ type: "scatter", mode: "lines", x: index(low), y: low, line: { width: 0 }, hoverinfo: "skip", showlegend: false });
    traces.push({
      type: "scatter", mode: "lines", x: index(high), y: high, fill: "tonexty", line: { width: 0 },
      fillcolor: dark.matches ? "rgba(180,190,200,.28)" : "rgba(90,100,110,.22)", name: "null, 95% of single modules", hoverinfo: "skip",
    });
    traces.push({ type: "scatter", mode: "lines", x: index(middle), y: middle, name: "null mean", line: { color: colour("quiet"), dash: "dash", width: 1.5 } });
  }
  traces.push({
    type: "scatter", mode: "lines+markers", x: index(found), y: found, name: "principal angles",
    line: { color: COLOURS[0], width: 2 }, marker: { size: 7, color: COLOURS[0] },
  });
  const where = side === "out" ? "output side" : "input side";
  const below = legendHeight(["null, 95% of single modules", "", ""], widthOf(`angles-${side}`));
  const empty = found.every((x) => x === null);
  draw(`angles-${side}`, traces, {
    height: 280 + below, margin: { l: 48, r: 12, t: 26, b: 50 + below }, showlegend: true, legend: legend(),
    xaxis: axis({ title: "angle, from the least", zeroline: false, tickformat: "d", dtick: Math.ceil(Math.max(1, found.length) / 16) }),
    yaxis: axis({ title: "radians", range: [0, 1.62] }),
  }, empty ? `Principal angles, ${where}: the two tasks share no module here.`
    : `Principal angles, ${where}: ${tasks[pair.tasks[0]]} and ${tasks[pair.tasks[1]]}. π/2 is 1.571.` +
      (middle.length ? "" : " There is no null band: the result does not record the width of the modules."));
}

function drawSpectra(id, pair, way, cells) {
  if (!pair.projected) return;
  const [source, target] = way ? [pair.tasks[1], pair.tasks[0]] : pair.tasks;
  const own = meanVector(cells, (cell) => vectorAt(page.spectra[source], cell));
  const other = meanVector(cells, (cell) => vectorAt(pair.projected[way], cell));
  const bar = (values, name, n) => ({
    type: "bar", x: values.map((_, k) => k + 1), y: values, name, marker: { color: COLOURS[n], pattern: { shape: n ? "/" : "", solidity: 0.35 } },
  });
  const names = [source, target].map((n) => plain(shorten(tasks[n], 30)));
  const below = legendHeight(["S1 of ".concat(names[0]), "S2 of ".concat(names[1])], widthOf(id));
  draw(id, [bar(own, `S1 of ${names[0]}`, 0), bar(other, `S2 of ${names[1]}`, 1)], {
    height: 280 + below, margin: { l: 56, r: 12, t: 26, b: 50 + below }, barmode: "group", showlegend: true, legend: legend(),
    xaxis: axis({ title: "singular direction of the source", zeroline: false, tickformat: "d", dtick: Math.ceil(Math.max(1, own.length) / 16) }),
    yaxis: axis({ title: "singular value" }),
  }, `${tasks[source]} → ${tasks[target]}: the source's spectrum S1, and the target's projection S2 on its singular directions.`);
}

function tabulate(pair) {
  const [a, b] = pair.tasks;
  const rows = page.variables.flatMap((variable) => {
    const ways = variable.symmetric ? [[a, b, "both ways"]] : [[a, b, "→"], [b, a, "←"]];
    return ways.map(([i, j, way]) => {
      const parts = ["values", "chance", "z"].map((part) => number(pooledAt(variable, part, i, j)));
      return [variable.name, way, ...parts, probability(pooledAt(variable, "p", i, j))];
    });
  });
  const row = (cells, kind) => {
    const line = document.createElement("tr");
    cells.forEach((text, n) => {
      const cell = document.createElement(kind === "th" || n === 0 ? "th" : "td");
      cell.scope = kind === "th" ? "col" : n === 0 ? "row" : "";
      cell.textContent = text;
      line.append(cell);
    });
    return line;
  };
  const table = document.getElementById("pair-values");
  const caption = document.createElement("caption");
  caption.textContent = `Pooled values. → has ${tasks[a]} as source, ← has ${tasks[b]}.`;
  const [head, body] = [document.createElement("thead"), document.createElement("tbody")];
  head.append(row(["variable", "way", "value", "null mean", "z", "p"], "th"));
  body.append(...rows.map((cells) => row(cells, "td")));
  table.replaceChildren(caption, head, body);
}

