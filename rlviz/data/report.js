// Draws every figure in the reader's theme, and again when that changes.
"use strict";
const plots = JSON.parse(document.getElementById("plots").textContent);
const dark = window.matchMedia("(prefers-color-scheme: dark)");
function draw() {
  const theme = dark.matches ? "dark" : "light";
  plots.figures.forEach((figure, i) => {
    const { data, layout } = figure[theme];
    layout.template = plots.templates[theme];
    Plotly.react(`plot-${i}`, data, layout, plots.config);
  });
  document.documentElement.dataset.drawn = theme;
}
dark.addEventListener("change", draw);
draw();
