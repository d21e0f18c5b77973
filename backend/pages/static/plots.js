"use strict";
// Draws every element of the class plot from its attribute data-figure, in the colours of the page.
(() => {
  function coloured(figure) {
    const style = getComputedStyle(document.documentElement);
    const [text, soft, line, card] = ["--text", "--soft", "--line", "--card"].map((name) => style.getPropertyValue(name).trim());
    const layout = figure.layout;
    layout.paper_bgcolor = layout.plot_bgcolor = "rgba(0,0,0,0)";
    layout.font = { ...layout.font, color: text };
    layout.hoverlabel = { bgcolor: card, bordercolor: line, font: { color: text } };
    for (const note of layout.annotations || []) note.font = { ...note.font, color: text };
    for (const [name, axis] of Object.entries(layout)) {
      if (/^[xy]axis\d*$/.test(name)) Object.assign(axis, { gridcolor: line, zerolinecolor: line, linecolor: line, title: { ...axis.title, font: { color: soft, size: 13 } } });
    }
    return figure;
  }
  function draw() {
    for (const place of document.querySelectorAll(".plot[data-figure]")) {
      const { data, layout } = coloured(JSON.parse(place.dataset.figure));
      Plotly.react(place, data, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    }
  }
  draw();
  document.addEventListener("tiebreak:taken", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
})();
