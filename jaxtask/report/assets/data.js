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

const pooledFloats = new Map();

/** Where the pair (i, j) stands among those stored. */
function pairIndex(symmetric, i, j) {
  const T = tasks.length;
  if (!symmetric) return i * (T - 1) + (j < i ? j : j - 1);
  const [low, high] = i < j ? [i, j] : [j, i];
  return low * T - (low * (low + 1)) / 2 + (high - low - 1);
}

/** What stands at the k-th pair of a pooled part ("values", "chance", "z", …); null if it lacks. */
function pooledPart(variable, part) {
  const stored = variable.pooled[part];
  if (stored === undefined) return null;
  if (typeof stored === "number") return () => stored; // the same for all pairs
  const key = `${variable.name} ${part}`;
  if (!pooledFloats.has(key)) pooledFloats.set(key, floats(stored));
  const numbers = pooledFloats.get(key);
  return (k) => numbers[k];
}

function pooled(variable, part) {
  const at = pooledPart(variable, part);
  return at && matrix(variable.symmetric, at);
}

function pooledAt(variable, part, i, j) {
  const at = pooledPart(variable, part);
  return at && at(pairIndex(variable.symmetric, i, j));
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
