// The scatter plots, the tree of clusters and the graph of inclusions.

function drawScatter(id, at, shares, xname, yname) {
  const width = widthOf(id);
  if (!width) return;
  const height = Math.max(320, Math.min(460, width * 0.8));
  const groups = page.groups ? groupNames : [""];
  const margin = { l: 52, r: 14, t: 26, b: 52 + (page.groups ? legendHeight(groups, width) : 0) };
  const inner = [width - margin.l - margin.r, height - margin.t - margin.b];
  const spans = [0, 1].map((c) => {
    const values = at.map((row) => row[c]);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const room = (high - low || 1) * 0.12;
    return [low - room, high + room];
  });
  const units = at.map((row) => row.map((x, c) => (x - spans[c][0]) / (spans[c][1] - spans[c][0])));
  const texts = shortNames(tasks, width > 450 ? 18 : 12);
  const places = labelPlaces(units, texts, inner);
  const traces = groups.map((name, g) => {
    const own = tasks.map((_, n) => n).filter((n) => groupOf(n) === g);
    return {
      type: "scatter", mode: "markers+text", name: plain(name || "no group"), cliponaxis: false,
      x: own.map((n) => at[n][0]), y: own.map((n) => at[n][1]),
      text: own.map((n) => (places[n] ? plain(texts[n]) : "")),
      textposition: own.map((n) => places[n] || "middle right"), textfont: { size: 11 },
      hovertext: own.map((n) => plain(tasks[n])), hovertemplate: "%{hovertext}<extra></extra>",
      marker: { size: 9, ...mark(g) },
    };
  });
  const share = (c) => `${(100 * shares[c]).toFixed(0)}%`;
  draw(id, traces, {
    height, margin, showlegend: Boolean(page.groups), legend: legend(),
    xaxis: axis({ title: `${xname} (${share(0)})`, range: spans[0], zeroline: false }),
    yaxis: axis({ title: `${yname} (${share(1)})`, range: spans[1], zeroline: false }),
  });
}

function drawMaps() {
  if (!page.maps) return;
  drawScatter("pca-plot", page.maps.pca, page.maps.pca_shares, "component 1", "component 2");
  drawScatter("mds-plot", page.maps.mds, page.maps.mds_shares, "dimension 1", "dimension 2");
}

function drawTree() {
  if (!page.maps) return;
  const width = widthOf("tree-plot");
  const names = shortNames(tasks, width > 700 ? 40 : width > 500 ? 24 : 14);
  const left = 12 + textWidth(longest(names));
  const { joins, order } = page.tree;
  // Where the first join stands near the last one, an axis from zero would show nothing else.
  const heights = joins.flatMap((join) => join.height).filter((h) => h > 0);
  const [low, high] = heights.length ? [Math.min(...heights), Math.max(...heights)] : [0, 1];
  const start = Math.max(0, low - 0.25 * (high - low || high));
  const x = joins.flatMap((join) => [...join.height.map((h) => Math.max(h, start)), null]);
  const y = joins.flatMap((join) => [...join.place, null]);
  const leaf = {
    type: "scatter", mode: "markers", x: order.map(() => start), y: order.map((_, n) => n), cliponaxis: false,
    hovertext: order.map((n) => plain(tasks[n] + (page.groups ? `, ${page.groups[n]}` : ""))),
    hovertemplate: "%{hovertext}<extra></extra>",
    marker: {
      size: page.groups ? 8 : 1, color: order.map((n) => mark(groupOf(n)).color),
      symbol: order.map((n) => mark(groupOf(n)).symbol),
    },
  };
  const lines = { type: "scatter", mode: "lines", x, y, line: { color: colour("quiet"), width: 1.5 }, hoverinfo: "x" };
  draw("tree-plot", [lines, leaf], {
    height: Math.max(120, (tasks.length > 40 ? 14 : 18) * tasks.length + 80), margin: { l: left, r: 16, t: 26, b: 46 },
    xaxis: axis({ title: page.maps.variable, range: [start, high + 0.02 * (high - start || 1)], zeroline: false }),
    yaxis: axis({
      tickmode: "array", tickvals: order.map((_, n) => n), ticktext: order.map((n) => plain(names[n])),
      range: [tasks.length - 0.5, -0.5], showgrid: false, zeroline: false, tickfont: { size: 11 }, ticklen: 6, tickcolor: "rgba(0,0,0,0)",
    }),
  });
}

function drawGraph() {
  const graph = page.graph;
  if (!graph || !document.getElementById("graph-plot")) return;
  const columns = 1 + Math.max(...graph.nodes.map((n) => n.column));
  const rows = 1 + Math.max(...graph.nodes.map((n) => n.row));
  // Names need room: where the page is narrow, the graph is wider and scrolls in its place.
  const width = Math.max(document.getElementById("graph-plot").parentElement.clientWidth, 150 * columns);
  const column = (width - 24) / columns;
  const most = Math.max(4, Math.floor((column - 34) / 6.7));
  const members = (n) => n.tasks.map((t) => tasks[t]).join(" = ");
  const short = shortNames(tasks, most - 3);
  const text = graph.nodes.map((n) => short[n.tasks[0]] + (n.tasks.length > 1 ? ` +${n.tasks.length - 1}` : ""));
  const ends = graph.edges.map(([a, b]) => {
    const [from, to] = [graph.nodes[a], graph.nodes[b]];
    return {
      ax: from.column + Math.min(0.75, (14 + 6.7 * text[a].length) / column), ay: from.row, x: to.column - 6 / column, y: to.row,
      axref: "x", ayref: "y", xref: "x", yref: "y", showarrow: true, text: "",
      arrowhead: 2, arrowsize: 1, arrowwidth: 1.2, arrowcolor: colour("quiet"),
    };
  });
  // Above the arrows, and not struck through by those of others.
  const named = graph.nodes.map((n, at) => ({
    x: n.column, y: n.row, text: plain(text[at]), font: { size: 12 }, showarrow: false,
    xanchor: "left", xshift: 7, borderpad: 0, bgcolor: colour("paper"),
  }));
  const node = {
    type: "scatter", mode: "markers", cliponaxis: false,
    x: graph.nodes.map((n) => n.column), y: graph.nodes.map((n) => n.row),
    hovertext: graph.nodes.map((n) => plain(members(n))), hovertemplate: "%{hovertext}<extra></extra>",
    marker: {
      size: 9, color: graph.nodes.map((n) => mark(groupOf(n.tasks[0])).color),
      symbol: graph.nodes.map((n) => mark(groupOf(n.tasks[0])).symbol),
    },
  };
  draw("graph-plot", [node], {
    width, height: Math.max(90, 36 * rows + 40), margin: { l: 10, r: 14, t: 24, b: 10 }, annotations: [...ends, ...named],
    xaxis: { visible: false, range: [-0.05, columns], fixedrange: true },
    yaxis: { visible: false, range: [rows - 0.4, -0.6], fixedrange: true },
  });
}

