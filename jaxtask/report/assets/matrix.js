// The matrix of tasks: one variable, pooled or of one layer or module.

function startMatrix() {
  chooseVariable("matrix", page.variables, drawMatrix);
  const orders = [["cluster", "by cluster"], ["name", "by name"], ["given", "as given"]];
  if (page.groups) orders.splice(1, 0, ["group", "by group"]);
  fill("matrix-order", page.order ? orders : orders.slice(1), drawMatrix);
  fill("matrix-layer", layerOptions(), drawMatrix);
  fill("matrix-module", moduleOptions(), drawMatrix);
}

function taskOrder(how) {
  const all = tasks.map((_, n) => n);
  const place = page.order || all;
  if (how === "cluster") return place;
  const byTask = (a, b) => tasks[a].localeCompare(tasks[b], undefined, { numeric: true });
  if (how === "name") return all.sort(byTask);
  if (how === "group") return all.sort((a, b) => groupOf(a) - groupOf(b) || place.indexOf(a) - place.indexOf(b));
  return all;
}

function drawMatrix() {
  const variable = chosenVariable("matrix");
  const [layer, module] = [chosen("matrix-layer"), chosen("matrix-module")];
  const whole = layer === "" && module === "";
  if (!whole && !variable.maps) {
    draw("matrix-plot", [], { height: 40, xaxis: { visible: false }, yaxis: { visible: false } },
      `${variable.name}: this page holds the maps of single layers and modules of other variables ` +
      `(${page.variables.filter((v) => v.maps).map((v) => v.name).join(", ")}). ` +
      `jaxtask report … --maps ${variable.name} makes a page with them.`);
    return;
  }
  const cells = cellsOf(layer, module);
  const values = whole ? pooled(variable, "values") : meanOfMaps(variable, cells);
  const known = { chance: null, z: null, p: null, low: null, high: null };
  if (whole) for (const part of Object.keys(known)) known[part] = pooled(variable, part);
  const chance = variable.profile.chance ? mean(cells.map((cell) => variable.profile.chance[cell])) : null;

  const order = taskOrder(chosen("matrix-order"));
  const width = widthOf("matrix-plot");
  const short = shortNames(tasks, width > 700 ? 26 : width > 500 ? 16 : 11);
  const room = textWidth(longest(short));
  const left = 14 + room;
  const right = width > 500 ? 80 : 8;
  const side = Math.min(width - left - right, 40 * tasks.length + 60);
  const step = Math.ceil(11 / (side / tasks.length));
  const shown = order.map((_, n) => n).filter((n) => n % step === 0);
  const names = shown.map((n) => plain(short[order[n]]));
  const z = order.map((i) => order.map((j) => values[i][j]));
  const text = order.map((i) => order.map((j) => {
    if (i === j) return `${plain(tasks[i])}`;
    const lines = [`${plain(tasks[i])} → ${plain(tasks[j])}`, `${variable.name} <b>${number(values[i][j])}</b>`];
    if (known.low) lines.push(`95% over layers: ${number(known.low[i][j])} to ${number(known.high[i][j])}`);
    if (known.chance) lines.push(`null mean ${number(known.chance[i][j])}`);
    else if (chance !== null) lines.push(`null mean ${number(chance)} (averaged over pairs)`);
    if (known.z) lines.push(`z ${number(known.z[i][j])}, p ${probability(known.p[i][j])}`);
    return lines.join("<br>");
  }));
  const flat = z.flat().filter((x) => x !== null);
  const [low, high] = [flat.reduce((a, b) => Math.min(a, b), Infinity), flat.reduce((a, b) => Math.max(a, b), -Infinity)];
  const trace = {
    type: "heatmap", z, text, hovertemplate: "%{text}<extra></extra>", hoverongaps: true,
    colorscale: "Cividis", reversescale: variable.similar === "small",
    zmin: low, zmax: high > low ? high : low + 1e-9, xgap: tasks.length > 40 ? 0 : 1, ygap: tasks.length > 40 ? 0 : 1,
    showscale: width > 500 && high > low, colorbar: { thickness: 12, outlinewidth: 0, len: 1 },
  };
  if (side / tasks.length >= 38) {
    trace.texttemplate = "%{z:.3~g}";
    trace.textfont = { size: 11 };
  }
  const ticks = { tickmode: "array", tickvals: shown, ticktext: names, showgrid: false, zeroline: false, ticks: "" };
  const level = room < side / tasks.length;
  const bottom = level ? 24 : 20 + 0.86 * room;
  const size = tasks.length > 40 ? 9 : 11;
  draw("matrix-plot", [trace], {
    width: left + side + right, height: side + bottom + 26, margin: { l: left, r: right, t: 26, b: bottom },
    xaxis: axis({ ...ticks, tickangle: level ? 0 : -55, tickfont: { size } }),
    yaxis: axis({ ...ticks, autorange: "reversed", tickfont: { size } }),
  }, matrixCaption(variable, flat.length ? [low, high] : null, whole, chance));
}

function matrixCaption(variable, range, whole, chance) {
  if (!range) return `${variable.name}: no pair of tasks has a value here.`;
  const says = [`${variable.name}: ${variable.title}; from ${number(range[0])} to ${number(range[1])}.`];
  if (!variable.symmetric) says.push("Rows are sources, columns targets.");
  if (variable.similar) says.push(`Bright cells are similar (${variable.similar} values).`);
  if (chance !== null) says.push(`Null mean, averaged over pairs: ${number(chance)}.`);
  if (!whole) says.push("Values of single layers and modules are rounded to 255 levels.");
  return says.join(" ");
}

