// Draws all of it, and again when the window or the colours change.

function drawAll() {
  drawMatrix();
  drawMaps();
  drawTree();
  drawGraph();
  drawPair();
  drawLayers();
}

startMatrix();
startPairs();
startLayers();
drawAll();
dark.addEventListener("change", drawAll);
let width = window.innerWidth;
let waiting;
window.addEventListener("resize", () => {
  if (window.innerWidth === width) return; // a phone's address bar comes and goes
  width = window.innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(drawAll, 150);
});
