// Profiles over layers and modules.

function startLayers() {
  chooseVariable("layers", page.variables, drawLayers);
}

function drawLayers() {
  const variable = chosenVariable("layers");
  const M = page.modules.length;
  const column = (values, m) => page.layers.map((_, l) => values[l * M + m]);
  const x = page.layers.map((layer) => (layer < 0 ? "outside" : String(layer)));
  const width = widthOf("layers-plot");
  const caption = `${variable.name}: mean over the pairs of different tasks, by layer and module` +
    (!variable.profile.chance ? "; it has no null distribution." : M > COLOURS.length ? "; hover over a cell for its null mean." : "; dashed: null mean.");
  if (M > COLOURS.length) {
    const rows = page.modules.map((_, m) => column(variable.profile.values, m));
    const names = shortNames(page.modules, width > 700 ? 32 : 14);
    const left = 14 + textWidth(longest(names));
    draw("layers-plot", [{
      type: "heatmap", x, y: page.modules.map((_, m) => m), z: rows, colorscale: "Cividis", reversescale: variable.similar === "small",
      text: page.modules.map((module, m) => column(variable.profile.chance || [], m).map((c) => `${plain(module)}, null mean ${number(c)}`)),
      hovertemplate: "layer %{x}, %{text}<br><b>%{z:.4g}</b><extra></extra>", colorbar: { thickness: 12, outlinewidth: 0 },
    }], {
      height: 80 + 16 * M, margin: { l: left, r: 70, t: 10, b: 46 },
      xaxis: axis({ title: "layer", type: "category" }),
      yaxis: axis({ tickmode: "array", tickvals: page.modules.map((_, m) => m), ticktext: names.map(plain), autorange: "reversed", tickfont: { size: 11 } }),
    }, caption);
    return;
  }
  const below = legendHeight(page.modules, width);
  const everyOther = Math.ceil(x.length / (width / 30));
  const traces = page.modules.flatMap((module, m) => {
    const own = { x, type: "scatter", legendgroup: module };
    const made = [{
      ...own, mode: "lines+markers", y: column(variable.profile.values, m), name: plain(module),
      line: { color: COLOURS[m], width: 2 }, marker: { symbol: SHAPES[m], size: 7 },
    }];
    if (variable.profile.chance) {
      made.push({ ...own, mode: x.length > 1 ? "lines" : "markers", y: column(variable.profile.chance, m), name: `${plain(module)}, null mean`,
        line: { color: COLOURS[m], dash: "dash", width: 1.2 }, marker: { symbol: `${SHAPES[m]}-open`, size: 9 }, showlegend: false });
    }
    return made;
  });
  draw("layers-plot", traces, {
    height: 340 + below, margin: { l: 60, r: 14, t: 26, b: 50 + below }, showlegend: true, legend: legend(),
    xaxis: axis({ title: "layer", type: "category", dtick: everyOther, tickangle: 0 }), yaxis: axis({ title: variable.name, zeroline: false }),
  }, caption);
}

