// How plots look, and native controls: nothing in here knows what is plotted.

// Okabe and Ito's colours, which colour-blind people tell apart; shapes say the same again.
const COLOURS = ["#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C8C8C", "#B8A800"];
const SHAPES = ["circle", "square", "diamond", "triangle-up", "x", "star", "hexagon", "cross"];
const dark = window.matchMedia("(prefers-color-scheme: dark)");

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

/** Text for a plot, in which no character means anything but itself. */
function plain(text) {
  return String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
}

/** At most `most` characters: the ends of a name tell more than its middle. */
function shorten(name, most) {
  if (name.length <= most) return name;
  const end = Math.floor((most - 1) / 2);
  return `${name.slice(0, most - 1 - end)}…${end ? name.slice(-end) : ""}`;
}

/** All names so shortened; those that would then be alike have their number in front. */
function shortNames(names, most) {
  const short = names.map((name) => shorten(name, most));
  const count = new Map();
  for (const name of short) count.set(name, (count.get(name) || 0) + 1);
  return names.map((name, n) => {
    const front = `${n + 1} `;
    return count.get(short[n]) > 1 ? front + shorten(name, most - front.length) : short[n];
  });
}

/** Pixels that so many characters take at most, in the small print of plots. */
function textWidth(characters) {
  return 6.7 * characters;
}

function longest(names) {
  return Math.max(...names.map((name) => name.length));
}

/** Height of a legend below a plot of that width. */
function legendHeight(names, width) {
  const inRow = Math.max(1, Math.floor((width - 70) / (50 + textWidth(longest(names)))));
  return 8 + 20 * Math.ceil(names.length / inRow);
}

function number(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  const size = Math.abs(x);
  return size !== 0 && (size < 1e-3 || size >= 1e5) ? x.toExponential(2) : String(+x.toPrecision(4));
}

function probability(p) {
  return p !== null && p < 1e-15 ? "< 1e-15" : number(p);
}

function axis(more) {
  return {
    gridcolor: colour("line"), zerolinecolor: colour("line"), linecolor: colour("line"),
    automargin: false, fixedrange: false, ...more,
    title: { text: more.title || "", font: { size: 13 } },
  };
}

/** At the bottom of a plot, below the axis. */
function legend() {
  return { orientation: "h", yref: "container", y: 0, yanchor: "bottom", x: 0, font: { size: 11 } };
}

function draw(id, traces, layout, caption) {
  const place = document.getElementById(id);
  if (!place) return;
  const base = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("ink") },
    hoverlabel: { bgcolor: colour("raised"), bordercolor: colour("line"), font: { color: colour("ink") } },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("quiet"), activecolor: colour("ink") },
    // A finger that moves over a plot scrolls the page.
    dragmode: false, showlegend: false, width: place.clientWidth,
  };
  const config = {
    displaylogo: false, displayModeBar: place.clientWidth > 500 ? "hover" : false,
    modeBarButtons: [["zoom2d", "pan2d", "resetScale2d", "toImage"]],
  };
  Plotly.react(place, traces, { ...base, ...layout }, config);
  if (caption !== undefined) document.getElementById(`${id}-text`).textContent = caption;
}

function widthOf(id) {
  const place = document.getElementById(id);
  return place ? place.clientWidth : 0;
}

/** Fill a <select> with [value, text] pairs and call back when another is chosen. */
function fill(id, options, changed) {
  const select = document.getElementById(id);
  const before = select.value;
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value)));
  if (options.some(([value]) => String(value) === before)) select.value = before;
  select.disabled = options.length < 2;
  if (changed) select.onchange = changed;
}

function chosen(id) {
  return document.getElementById(id).value;
}

/** Where each point's text may stand without meeting another's; "" where there is no room. */
function labelPlaces(points, texts, scale) {
  const taken = points.map(([x, y]) => [x * scale[0] - 6, y * scale[1] - 6, x * scale[0] + 6, y * scale[1] + 6]);
  return points.map(([x, y], n) => {
    const [px, py, w, h] = [x * scale[0], y * scale[1], 7 * texts[n].length, 15];
    const places = [
      ["middle right", px + 8, py - h / 2], ["middle left", px - 8 - w, py - h / 2],
      ["top center", px - w / 2, py + 6], ["bottom center", px - w / 2, py - 6 - h],
      ["top right", px + 5, py + 5], ["top left", px - 5 - w, py + 5],
      ["bottom right", px + 5, py - 5 - h], ["bottom left", px - 5 - w, py - 5 - h],
    ];
    for (const [place, x0, y0] of places) {
      const box = [x0, y0, x0 + w, y0 + h];
      const inside = x0 >= 0 && x0 + w <= scale[0] && y0 >= 0 && y0 + h <= scale[1];
      const free = taken.every((b, other) => other === n || b[2] <= box[0] || box[2] <= b[0] || b[3] <= box[1] || box[3] <= b[1]);
      if (inside && free) {
        taken.push(box);
        return place;
      }
    }
    return "";
  });
}
