// Draws what is in sight, and again when the window or the colours change.

const DRAWN = {
  matrix: drawMatrix,
  maps: drawMaps,
  clusters: drawTree,
  inclusion: drawGraph,
  pairs: drawPair,
  layers: drawLayers,
};
const due = new Set(Object.keys(DRAWN));

function drawSection(id) {
  if (due.delete(id)) DRAWN[id]();
}

// A section is drawn when it is about to come into sight: the page opens at once, however long.
const inSight = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) drawSection(entry.target.id);
}, { rootMargin: "600px" });

function redraw() {
  for (const id of Object.keys(DRAWN)) {
    due.add(id);
    const section = document.getElementById(id);
    inSight.unobserve(section); // observed anew, it says at once whether it is in sight
    inSight.observe(section);
  }
}

startMatrix();
startPairs();
startLayers();
redraw();
dark.addEventListener("change", redraw);
window.addEventListener("beforeprint", () => due.forEach(drawSection));
let width = window.innerWidth;
let waiting;
window.addEventListener("resize", () => {
  if (window.innerWidth === width) return; // a phone's address bar comes and goes
  width = window.innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(redraw, 150);
});
