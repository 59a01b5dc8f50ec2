// Choices that several sections share: groups, variables, layers, modules.

const groupNames = [...new Set(page.groups || [])];

function groupOf(task) {
  return page.groups ? groupNames.indexOf(page.groups[task]) : 0;
}

/** Colour and shape of a group's marks; 64 groups differ in one or both. */
function mark(group) {
  return { color: COLOURS[group % 8], symbol: SHAPES[(group + Math.floor(group / 8)) % 8] };
}

/** Two selects for one variable: the metric, and the side where it has one. */
function chooseVariable(prefix, usable, changed) {
  const metrics = [...new Set(usable.map((v) => v.metric))];
  const sides = () => {
    const own = usable.filter((v) => v.metric === chosen(`${prefix}-metric`));
    fill(`${prefix}-side`, own.map((v) => [v.side, v.side === "" ? "–" : v.side]), changed);
  };
  fill(`${prefix}-metric`, metrics.map((m) => [m, m]), () => { sides(); changed(); });
  sides();
}

function chosenVariable(prefix) {
  const [metric, side] = [chosen(`${prefix}-metric`), chosen(`${prefix}-side`)];
  return page.variables.find((v) => v.metric === metric && v.side === side);
}

function layerOptions() {
  return [["", "mean"], ...page.layers.map((layer, l) => [l, layer < 0 ? "outside layers" : layer])];
}

function moduleOptions() {
  return [["", "mean"], ...page.modules.map((module, m) => [m, module])];
}

