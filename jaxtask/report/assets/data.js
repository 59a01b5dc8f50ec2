"use strict";
// The numbers of the page: decoding, and means over layers and modules.

const page = JSON.parse(document.getElementById("data").textContent);
const tasks = page.tasks;
const MISSING = 255; // of the 8-bit codes

function bytes(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

function floats(text) {
  return new Float32Array(bytes(text).buffer);
}

/** Rows of a matrix over pairs of tasks; what stands at `at(k)` is the k-th pair stored. */
function matrix(symmetric, at) {
  const rows = tasks.map(() => new Array(tasks.length).fill(null));
  let k = 0;
  for (let i = 0; i < tasks.length; i++) {
    for (let j = symmetric ? i + 1 : 0; j < tasks.length; j++) {
      if (i === j) continue;
      const value = at(k++);
      rows[i][j] = Number.isNaN(value) ? null : value;
      if (symmetric) rows[j][i] = rows[i][j];
    }
  }
  return rows;
}

/** A pooled part of a variable ("values", "chance", "z", "low", "high"), or null. */
function pooled(variable, part) {
  const stored = variable.pooled[part];
  if (stored === undefined) return null;
  if (typeof stored === "number") return matrix(true, () => stored);
  const numbers = floats(stored);
  // "low" and "high" are of a metric; a "chance" may differ by direction where the metric does not.
  return matrix(variable.symmetric, (k) => numbers[k]);
}

const decoded = new Map();

/** Mean of a variable's 8-bit maps over those cells (layer × module). */
function meanOfMaps(variable, cells) {
  const { codes, ranges } = variable.maps;
  if (!decoded.has(variable.name)) decoded.set(variable.name, bytes(codes));
  const all = decoded.get(variable.name);
  const size = all.length / ranges.length;
  const total = new Float64Array(size);
  const count = new Uint32Array(size);
  for (const cell of cells) {
    if (ranges[cell] === null) continue;
    const [low, high] = ranges[cell];
    for (let k = 0; k < size; k++) {
      const code = all[cell * size + k];
      if (code === MISSING) continue;
      total[k] += low + ((high - low) * code) / (MISSING - 1);
      count[k] += 1;
    }
  }
  return matrix(variable.symmetric, (k) => total[k] / count[k]);
}

/** Cells of a choice of layer and module; "" stands for all. */
function cellsOf(layer, module) {
  const cells = [];
  for (let l = 0; l < page.layers.length; l++) {
    for (let m = 0; m < page.modules.length; m++) {
      if ((layer === "" || Number(layer) === l) && (module === "" || Number(module) === m)) {
        cells.push(l * page.modules.length + m);
      }
    }
  }
  return cells;
}

/** Mean over cells of the vectors that `at(cell)` gives, entry by entry; null where none has one. */
function meanVector(cells, at) {
  const total = [];
  const count = [];
  for (const cell of cells) {
    const vector = at(cell);
    if (!vector) continue;
    vector.forEach((value, k) => {
      if (Number.isNaN(value)) return;
      total[k] = (total[k] || 0) + value;
      count[k] = (count[k] || 0) + 1;
    });
  }
  return Array.from(total, (sum, k) => (count[k] ? sum / count[k] : null));
}

function mean(numbers) {
  const known = numbers.filter((x) => x !== null && x !== undefined && !Number.isNaN(x));
  return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
}
